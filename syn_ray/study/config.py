"""A study file: which curves, at which dataset sizes, judged on what. Read and checked; `cells` expands its curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic

from syn_ray.core.config import PAPER_NOT_GIVEN, Config, Name
from syn_ray.core.errors import nearest
from syn_ray.datasets.config import (
    EmbeddedImages,
    FolderImages,
    ImageText,
    ParquetImages,
    RealImages,
    WebDatasetImages,
)
from syn_ray.datasets.downstream import ZeroShotSet
from syn_ray.datasets.vocabulary import Classes, class_names
from syn_ray.datasets.zero_shot import ZERO_SHOT_SETS, named_classes, zero_shot_set
from syn_ray.generate.config import EvaluationSource, ImageFormat, PairSource
from syn_ray.generate.families import GeneratorConfig
from syn_ray.prompts.config import ModelCaptions, NamedPromptConfig
from syn_ray.report.inputs import DOWNSTREAM, HELD_OUT, IMAGES
from syn_ray.score.config import ScoreConfig
from syn_ray.study.cells import bare_classes, cells
from syn_ray.study.curves import Curve, Curves, Sizes
from syn_ray.train.config import ClassifyConfig, TrainConfig, objective_of

CAPTIONS = ("captions", "model_captions")
LEAST_SIZES = 3
"""Dataset sizes that a law needs inside its window."""
RESERVED = {
    IMAGES: "what image scores are called",
    DOWNSTREAM: "what the pooled downstream sets are called",
    HELD_OUT: "what retrieval among the pairs is called",
}


class StudyConfig(Config):
    """What a study computes."""

    name: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    question: str
    seed: int = 0
    """Of the samples' noise and of the real images' order."""
    classes: Classes
    """Of the evaluation sets, and of all training images with labels."""
    image: ImageFormat = ImageFormat()
    real: RealImages | None = None
    """The real training images; their captions, or a model's captions of them, make the prompt set `captions`."""
    pairs: ImageText | None = None
    """For CLIP, in place of `real`: images with their captions. Those held out are judged by retrieval."""
    evaluation_sets: dict[Name, RealImages]
    """By the name they have in results; the first is the main one."""
    masked_sets: tuple[Name, ...] = ()
    """Evaluation sets judged among the classes that occur in them, as is usual of ImageNet-A and -R and their 200; the
    paper does not say what it does. One judged both ways is named twice in evaluation_sets."""
    downstream: dict[Name, RealImages] = pydantic.Field(default_factory=dict)
    """For CLIP: sets of other classes, judged zero-shot with the class names and templates known for their names."""
    generators: dict[Name, GeneratorConfig] = pydantic.Field(default_factory=dict)
    prompt_sets: dict[Name, NamedPromptConfig] = pydantic.Field(default_factory=dict)
    """Sets with settings of their own, by the name that curves call them; it may be a plain set's name."""
    long_prompts: Literal["truncate", "drop", "stop"] = pydantic.Field(
        "truncate", json_schema_extra=dict(PAPER_NOT_GIVEN)
    )
    """Prompts that the text encoder does not take whole: cut off, replaced by the class's next, or not accepted."""
    curves: tuple[Curves, ...]
    dataset_sizes: Sizes
    seeds: tuple[pydantic.NonNegativeInt, ...] = (0,)
    """Training seeds: every point is trained once with each."""
    reference_size: pydantic.PositiveInt
    """D at which performance is read off; the paper's is 1.3M."""
    fit_window: tuple[pydantic.PositiveInt, pydantic.PositiveInt]
    score: ScoreConfig | None = ScoreConfig()
    """null: images are not scored, as those of CLIP, which have no labels."""
    train: TrainConfig = ClassifyConfig()
    notes: tuple[str, ...] = ()
    """Said in the report: how the recipe was found, what stands in for what."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _caption_real_images(cls, data: Any) -> Any:
        """Sets about captions are about the real images, where they do not say others."""
        if not isinstance(data, dict) or not isinstance(data.get("prompt_sets"), dict) or "real" not in data:
            return data
        sets = {
            name: {"images": data["real"]} | given
            if isinstance(given, dict) and given.get("kind") in CAPTIONS
            else given
            for name, given in data["prompt_sets"].items()
        }
        return data | {"prompt_sets": sets}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _score_labels_alone(cls, data: Any) -> Any:
        """A study of CLIP has no scores unless it asks for them, which is a mistake that is told."""
        clip = isinstance(data, dict) and objective_of(data.get("train", {})) == "clip"
        return {"score": None} | data if clip else data

    @pydantic.model_validator(mode="after")
    def _check(self) -> StudyConfig:
        class_names(self.classes)
        (_check_clip if self.trains_clip else _check_classify)(self)
        if not self.evaluation_sets:
            raise ValueError("evaluation_sets: name at least one")
        for name in self.evaluation_sets:
            if name == IMAGES or (name in RESERVED and self.trains_clip):
                raise ValueError(f"evaluation_sets: '{name}' is {RESERVED[name]} in results; rename it")
            if name in self.downstream:
                raise ValueError(f"evaluation_sets: '{name}' is one of the downstream sets as well; rename it")
        for name in self.masked_sets:
            if name not in self.evaluation_sets:
                raise ValueError(f"masked_sets: '{name}' is no evaluation set{nearest(name, self.evaluation_sets)}")
        if isinstance(self.real, FolderImages) and self.real.subset:
            raise ValueError("real: subset is for evaluation sets; training images are of every class")
        _check_places("evaluation_sets, downstream", [*self.evaluation_sets.values(), *self.downstream.values()])
        captioned = [prompts.images for prompts in self.prompt_sets.values() if isinstance(prompts, ModelCaptions)]
        _check_places("real, prompt_sets", [*([self.real] if self.real else []), *captioned])
        if not self.curves:
            raise ValueError("curves: name at least one")
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise ValueError("seeds: give each once")
        _check_curves(self)
        return self

    @property
    def trains_clip(self) -> bool:
        """Whether images are trained on with their captions, and judged zero-shot."""
        return self.train.objective == "clip"

    def cells(self) -> list[Curve]:
        """Every curve, by name and with its source."""
        return cells(self)

    def evaluation_sources(self) -> dict[str, EvaluationSource | PairSource]:
        """The evaluation sets as sources; after them the downstream sets and the pairs held out."""
        sources: dict[str, EvaluationSource | PairSource] = {
            name: self._evaluation_source(images, self.classes) for name, images in self.evaluation_sets.items()
        }
        for name, images in self.downstream.items():
            sources[name] = self._evaluation_source(images, name)
        if self.pairs is not None and self.pairs.held_out:
            sources[HELD_OUT] = PairSource(pairs=self.pairs, split="held_out", study_seed=self.seed, image=self.image)
        return sources

    def _evaluation_source(self, images: RealImages, classes: Classes) -> EvaluationSource:
        # A label of CLIP's is a place in the list of names that it is told, whatever order the files have.
        if self.trains_clip and isinstance(images, ParquetImages | WebDatasetImages) and images.classes is None:
            images = images.model_copy(update={"classes": classes})
        return EvaluationSource(images=images, classes=bare_classes(classes, images), image=self.image)

    def zero_shot_set(self, name: str) -> ZeroShotSet:
        """What CLIP is told of an evaluation set or a downstream set: the class names, the templates, the metric."""
        return zero_shot_set(name) if name in self.downstream else named_classes(self.classes)


def _check_classify(study: StudyConfig) -> None:
    """Whether what is given goes with training a classifier."""
    if study.real is None:
        raise ValueError("real: name the real training images, e.g. {kind: folder, path: imagenet/train, name: in1k}")
    for key in ("pairs", "downstream"):
        if getattr(study, key):
            raise ValueError(f"{key}: they are for CLIP; say train: {{objective: clip}}, or leave them out")


def _check_clip(study: StudyConfig) -> None:
    """Whether what is given goes with training CLIP."""
    if study.pairs is None:
        example = "{kind: webdataset, path: DIR, name: mine}"
        raise ValueError(f"pairs: CLIP trains on images with captions; name them, e.g. {example}")
    needless = {
        "real": "CLIP trains on pairs",
        "prompt_sets": "the captions of the pairs are the prompts",
        "score": "recognizability and diversity need labels, and pairs have none",
    }
    for key, why in needless.items():
        if getattr(study, key):
            raise ValueError(f"{key}: {why}; leave it out")
    if study.long_prompts != "truncate":
        raise ValueError("long_prompts: the captions of pairs are cut off, not replaced or refused; leave it out")
    for name in study.downstream:
        if name not in ZERO_SHOT_SETS:
            hint = nearest(name, ZERO_SHOT_SETS)
            raise ValueError(f"downstream: no class names and templates are known for '{name}'{hint}")


def _check_curves(study: StudyConfig) -> None:
    if study.fit_window[0] >= study.fit_window[1]:
        raise ValueError(f"fit_window {list(study.fit_window)} is empty; give [smallest D, largest D]")
    curves = study.cells()
    for sizes in (study.dataset_sizes, *(curve.dataset_sizes for curve in curves)):
        inside = [size for size in sizes if study.fit_window[0] <= size <= study.fit_window[1]]
        # A curve of fewer sizes has no law, and says so.
        if len(inside) < LEAST_SIZES and (len(sizes) >= LEAST_SIZES or sizes == study.dataset_sizes):
            raise ValueError(
                f"fit_window {list(study.fit_window)} holds {len(inside)} of the dataset sizes; "
                f"a law needs {LEAST_SIZES}"
            )
    names = [curve.name for curve in curves]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"curves: '{twice[0]}' is there twice; give each curve once")


def _check_places(where: str, sets: Sequence[RealImages]) -> None:
    """One name, one folder: what is made of images is called by their name, wherever they lie."""
    paths: dict[str, str] = {}
    for images in sets:
        if not isinstance(images, EmbeddedImages) and paths.setdefault(images.name, images.path) != images.path:
            raise ValueError(
                f"{where}: '{images.name}' names the images in '{paths[images.name]}' and those in '{images.path}'; "
                "give each a name of its own"
            )
