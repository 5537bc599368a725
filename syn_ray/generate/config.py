"""What a source is: a stream of images in which sample `i` is fixed by this configuration and `i` alone.

Images are labelled, or have a caption and no label: image-text pairs, and what is drawn from captions.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from syn_ray.core.config import PAPER_NOT_GIVEN, Config
from syn_ray.datasets.config import ImageText, RealImages
from syn_ray.datasets.vocabulary import Classes
from syn_ray.generate.families import LOWEST_GUIDANCE, GeneratorConfig
from syn_ray.prompts.config import WITHOUT_CLASSES, PairCaptions, PromptConfig


class ImageFormat(Config):
    """How an image is saved."""

    size_px: pydantic.PositiveInt = 256
    """Height and width of what is saved, whatever the generator draws; the paper saves 256."""
    second_px: pydantic.PositiveInt | None = None
    """A second copy of each image, of this size, in a column `image_second`: two sizes out of one pass."""
    mode: Literal["RGB", "L"] = "RGB"
    codec: Literal["jpeg", "png"] = "jpeg"
    quality: Annotated[int, pydantic.Field(ge=1, le=100, json_schema_extra=dict(PAPER_NOT_GIVEN))] = 95


class Gate(Config):
    """When a generated image is refused and made again from the sample's next seed."""

    least_std: pydantic.NonNegativeFloat = 2.0
    """Grey levels of standard deviation below which an image is flat."""
    least_maximum: Annotated[int, pydantic.Field(ge=0, le=255)] = 16
    """Brightest grey level below which an image is black: a safety checker's answer, or values not finite."""
    attempts: pydantic.PositiveInt = 5
    """Seeds tried for one sample before the run stops."""


class SyntheticSource(Config):
    """What a generator draws at a guidance scale for a prompt set."""

    kind: Literal["synthetic"] = "synthetic"
    generator: GeneratorConfig
    guidance_scale: float
    prompts: PromptConfig
    classes: Classes | None = None
    """None: samples have no label, as the prompts are captions."""
    study_seed: int
    image: ImageFormat = ImageFormat()
    gate: Gate = Gate()

    @pydantic.model_validator(mode="after")
    def _classes_where_needed(self) -> SyntheticSource:
        if self.classes is None and self.prompts.kind not in WITHOUT_CLASSES:
            raise ValueError(f"prompts '{self.prompts.kind}' are about classes, and there are none; name classes")
        if self.classes is not None and isinstance(self.prompts, PairCaptions):
            raise ValueError("prompts 'pair_captions' are not about classes; leave classes out")
        return self

    @pydantic.model_validator(mode="after")
    def _guidance_in_range(self) -> SyntheticSource:
        if self.guidance_scale < LOWEST_GUIDANCE:
            raise ValueError(
                f"guidance_scale {self.guidance_scale:g} is below what {self.generator.family} takes; "
                f"give {LOWEST_GUIDANCE:g} (no guidance) or more"
            )
        return self

    @property
    def native_guidance(self) -> float:
        """The guidance in the model's own convention; Muse's is t = guidance_scale − 1."""
        return self.generator.native_guidance(self.guidance_scale)

    @property
    def name(self) -> str:
        return f"{self.generator.label}-{self.prompts.kind}-g{self.guidance_scale:g}"


class RealSource(Config):
    """Real training images in a seeded, class-balanced order."""

    kind: Literal["real"] = "real"
    images: RealImages
    classes: Classes
    study_seed: int
    image: ImageFormat = ImageFormat()

    @property
    def name(self) -> str:
        return f"real-{self.images.name}"


class EvaluationSource(Config):
    """Every image of an evaluation set, in its own order."""

    kind: Literal["evaluation"] = "evaluation"
    images: RealImages
    classes: Classes
    image: ImageFormat = ImageFormat()

    @property
    def name(self) -> str:
        return f"{self.images.name}"


class PairSource(Config):
    """Real images with their captions, in the seeded order of the pairs."""

    kind: Literal["pairs"] = "pairs"
    pairs: ImageText
    split: Literal["train", "held_out"] = "train"
    """What is trained on, or the pairs that are held out (`pairs.held_out`)."""
    study_seed: int
    image: ImageFormat = ImageFormat()

    @pydantic.model_validator(mode="after")
    def _something_held_out(self) -> PairSource:
        if self.split == "held_out" and not self.pairs.held_out:
            raise ValueError(f"pairs '{self.pairs.name}' hold out none; give them held_out")
        return self

    @property
    def name(self) -> str:
        return f"pairs-{self.pairs.name}" + ("-held-out" if self.split == "held_out" else "")


class MixedSource(Config):
    """Of each caption two images, a real and a generated one, of which one is taken at each visit.

    Nothing is made for it and nothing is copied: it is the two sources' directories. The captions are those of either.
    """

    kind: Literal["mixed"] = "mixed"
    real: PairSource
    synthetic: SyntheticSource
    synthetic_probability: Annotated[float, pydantic.Field(ge=0, le=1, json_schema_extra=dict(PAPER_NOT_GIVEN))] = 0.5

    @pydantic.model_validator(mode="after")
    def _alike(self) -> MixedSource:
        if self.synthetic.classes is not None:
            raise ValueError(
                "mixed: the synthetic source has classes, pairs have none; give it prompts 'pair_captions'"
            )
        prompts = self.synthetic.prompts
        if isinstance(prompts, PairCaptions) and prompts.pairs.fingerprint != self.real.pairs.fingerprint:
            raise ValueError(
                f"mixed: the images are of the captions of '{prompts.pairs.name}' and of '{self.real.pairs.name}'; "
                "give both the same pairs"
            )
        if self.real.image != self.synthetic.image:
            raise ValueError("mixed: real and generated images are saved in different forms; give both one 'image'")
        return self

    @property
    def name(self) -> str:
        return f"mixed-{self.real.pairs.name}-{self.synthetic.name}-p{self.synthetic_probability:g}"


AnySource = SyntheticSource | RealSource | EvaluationSource | PairSource
"""What is made, and has a directory."""
TrainingSource = SyntheticSource | RealSource | PairSource | MixedSource
"""What is trained on."""
Source = Annotated[AnySource, pydantic.Field(discriminator="kind")]


def parts(source: TrainingSource) -> tuple[SyntheticSource | RealSource | PairSource, ...]:
    """What is made for a source: of a mixed one the real and the synthetic half, in this order."""
    return (source.real, source.synthetic) if isinstance(source, MixedSource) else (source,)


def directory_name(source: AnySource) -> str:
    """The directory of a source under `images/`."""
    return f"{source.name}-{source.fingerprint[:8]}"
