"""What a source is: a stream of labelled images in which sample `i` is fixed by this configuration and `i` alone."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from syn_ray.core.config import PAPER_NOT_GIVEN, Config
from syn_ray.datasets.config import RealImages
from syn_ray.datasets.vocabulary import Classes
from syn_ray.generate.families import LOWEST_GUIDANCE, GeneratorConfig
from syn_ray.prompts.config import PromptConfig


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
    classes: Classes
    study_seed: int
    image: ImageFormat = ImageFormat()
    gate: Gate = Gate()

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


Source = Annotated[SyntheticSource | RealSource | EvaluationSource, pydantic.Field(discriminator="kind")]


def directory_name(source: SyntheticSource | RealSource | EvaluationSource) -> str:
    """The directory of a source under `images/`."""
    return f"{source.name}-{source.fingerprint[:8]}"
