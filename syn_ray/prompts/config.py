"""Which prompt set is meant.

The first three kinds are rules. `captions` are texts that real images carry. `model_captions` and `word2sen` are
written by a model, once, and read from the storage afterwards (cache.py). `texts` are a file of the user's.
`pair_captions` are the captions of image-text pairs; they have no classes.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field

from syn_ray.core.config import PAPER_NOT_GIVEN, PLACE, Config
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages, ImageText, RealImages

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_NOT_GIVEN: JsonDict = {**PAPER_NOT_GIVEN}


class TemplatePrompts(Config):
    """The class name, bare or in CLIP's zero-shot templates (paper section 3.1)."""

    kind: Literal["classnames", "clip_templates_7", "clip_templates_80"]


class WordNetPrompts(Config):
    """The class name and what WordNet says of it (paper section 3.1).

    `descriptions`: name, comma, gloss. `hypernyms`: name, lemmas of its synset, lemmas of the direct hypernyms; the
    paper's example is "tench, Tinca tinca, cyprinid, cyprinid fish".
    """

    kind: Literal["descriptions", "hypernyms"]


class CaptionPrompts(Config):
    """Class name, comma, the caption that a real training image of the class carries (paper section 3.1)."""

    kind: Literal["captions"] = "captions"
    images: RealImages
    """The captioned training images."""


class TextModel(Config):
    """A transformers model that writes text, and how it is decoded, in transformers' own words."""

    model_id: str
    """A model of the Hub, or a local directory; only safetensors weights are read, and no code from the Hub is run."""
    revision: str | None = None
    prompt: str = ""
    """What the model is given: words before the caption, or the text in which `{}` stands for the class name."""
    max_new_tokens: pydantic.PositiveInt = Field(30, json_schema_extra=_NOT_GIVEN)
    num_beams: pydantic.PositiveInt = Field(1, json_schema_extra=_NOT_GIVEN)
    do_sample: bool = Field(False, json_schema_extra=_NOT_GIVEN)
    temperature: pydantic.PositiveFloat = Field(1.0, json_schema_extra=_NOT_GIVEN)
    top_k: pydantic.NonNegativeInt = Field(50, json_schema_extra=_NOT_GIVEN)
    """Tokens sampled from at each place; 0: all."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read_name(cls, data: Any) -> Any:
        return {"model_id": data} if isinstance(data, str) else data

    @pydantic.model_validator(mode="after")
    def _check(self) -> TextModel:
        if self.do_sample and self.num_beams > 1:
            raise ValueError(f"num_beams {self.num_beams} does not go with do_sample; set one of them to its default")
        return self


class Captioner(TextModel):
    """Writes a caption for an image: any model of transformers' AutoModelForImageTextToText.

    Decoding is LAVIS's default for BLIP-2: five beams, at most 30 tokens.
    """

    model_id: str = Field("Salesforce/blip2-opt-2.7b", json_schema_extra=_NOT_GIVEN)
    num_beams: pydantic.PositiveInt = Field(5, json_schema_extra=_NOT_GIVEN)


class SentenceWriter(TextModel):
    """Writes sentences around a word: any model of transformers' AutoModelForSeq2SeqLM.

    Model and decoding are those of He et al.'s language enhancement (CVMI-Lab/SyntheticData, src/LE.py), which the
    paper follows: sampling with what were transformers' defaults, 20 tokens, each of the 50 likeliest.
    """

    model_id: str = "mrm8488/t5-base-finetuned-common_gen"
    prompt: str = "{}"
    max_new_tokens: pydantic.PositiveInt = Field(20, json_schema_extra=_NOT_GIVEN)
    do_sample: bool = True

    @pydantic.field_validator("prompt")
    @classmethod
    def _has_place(cls, prompt: str) -> str:
        if prompt.count("{}") != 1:
            raise ValueError("the prompt has no place for the class name; put {} where it stands, once")
        return prompt


class ModelCaptions(Config):
    """Class name, comma, caption of a real training image of the class by a model (paper section 3.1, IN-Captions)."""

    kind: Literal["model_captions"] = "model_captions"
    images: RealImages
    model: Captioner = Captioner()


class Word2Sen(Config):
    """Sentences that a keyword-to-sentence model writes around the class name (paper section 3.1)."""

    kind: Literal["word2sen"] = "word2sen"
    sentences: pydantic.PositiveInt = 100
    """Of each class. A class of which fewer different ones are written has those."""
    spare: pydantic.NonNegativeInt = 50
    """Sentences written beyond that, because duplicates are dropped (He et al.)."""
    model: SentenceWriter = SentenceWriter()


class TextFile(Config):
    """A file of prompts, one a sample: line or row `i` is sample `i`'s, and after the last the first follow again.

    In a source without classes its samples have no label, and a label column is not looked at.
    """

    kind: Literal["texts"] = "texts"
    path: Annotated[str, Field(json_schema_extra=dict(PLACE))]
    """.txt (one a line), .csv, .jsonl or .parquet; a local path or a `pyarrow.fs` URI that every worker can read."""
    column: str = "text"
    label_column: str | None = "label"
    """Labels or class names, compared with what the sample index says; null: rows are taken to be in class order."""
    revision: str = ""
    """Filled in: the sha256 of the file and its ending, so that another text is another source, wherever it lies."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_revision(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not isinstance(data.get("path"), str) or data.get("revision"):
            return data
        return data | {"revision": text_revision(data["path"], read_text_file(data["path"]))}

    @property
    def suffix(self) -> str:
        """How the file is read."""
        return PurePosixPath(Storage(self.path).name).suffix


class PairCaptions(Config):
    """The captions of image-text pairs, one a sample: sample `i` is asked for by the caption of real pair `i`."""

    kind: Literal["pair_captions"] = "pair_captions"
    pairs: ImageText


SetConfig = TemplatePrompts | WordNetPrompts | CaptionPrompts | ModelCaptions | Word2Sen | TextFile | PairCaptions
WITHOUT_CLASSES = ("texts", "pair_captions")
"""Sets that a source without classes may have; the second has no other sources."""


class FittingPrompts(Config):
    """Another set in which each prompt longer than a text encoder takes gives its place to the class's next one."""

    kind: Literal["fitting"] = "fitting"
    prompts: Annotated[SetConfig, Field(discriminator="kind")]
    model_id: str
    """The generator whose tokenizer counts."""
    revision: str | None = None

    @pydantic.field_validator("prompts")
    @classmethod
    def _can_be_replaced(cls, prompts: SetConfig) -> SetConfig:
        if isinstance(prompts, PairCaptions):
            problem = "the captions of pairs are not replaced; set long_prompts to truncate"
            raise ValueError(problem)  # noqa: TRY004 - pydantic reports ValueErrors
        return prompts


def without_limit(config: SetConfig | FittingPrompts) -> SetConfig:
    """The set itself, its too long prompts included."""
    return config.prompts if isinstance(config, FittingPrompts) else config


PromptConfig = Annotated[SetConfig | FittingPrompts, Field(discriminator="kind")]
NamedPromptConfig = Annotated[SetConfig, Field(discriminator="kind")]
"""What a study can name."""

PROMPT_SETS = (
    *("classnames", "descriptions", "hypernyms", "word2sen", "clip_templates_7", "clip_templates_80"),
    *("captions", "model_captions"),
)
"""The sets that need no settings; `captions` and `model_captions` are about the study's real images."""


def plain_prompts(name: str, real: RealImages) -> SetConfig:
    """A set by its name alone, with every default: `captions` are those that the images carry, else a model's."""
    if name == "captions" and isinstance(real, EmbeddedImages):
        return CaptionPrompts(images=real)
    if name in {"captions", "model_captions"}:
        return ModelCaptions(images=real)
    if name == "word2sen":
        return Word2Sen()
    if name in {"descriptions", "hypernyms"}:
        return WordNetPrompts.model_validate({"kind": name})
    return TemplatePrompts.model_validate({"kind": name})


def read_text_file(path: str) -> bytes:
    """The bytes of a prompt file.

    Raises:
        ValueError: it cannot be read.
    """
    file = Storage(path)
    try:
        return file.parent.read_bytes(file.name)
    except FileNotFoundError:
        raise ValueError(f"there is no prompt file '{path}'; correct its path") from None
    except OSError as error:
        raise ValueError(f"prompt file '{path}' cannot be read: {str(error).splitlines()[0]}") from None


def text_revision(path: str, data: bytes) -> str:
    """What a prompt file with this content is identified by, wherever it lies."""
    return hashlib.sha256(data).hexdigest() + PurePosixPath(Storage(path).name).suffix
