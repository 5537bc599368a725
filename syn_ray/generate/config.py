"""What a source is: a stream of labelled images in which sample `i` is fixed by this configuration and `i` alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from syn_ray import embedded
from syn_ray.core.config import PAPER_NOT_GIVEN, Config
from syn_ray.core.errors import nearest
from syn_ray.datasets.config import RealImages
from syn_ray.datasets.vocabulary import Classes
from syn_ray.prompts.config import PromptConfig

FAMILIES = ("stable_diffusion",)
LOWEST_GUIDANCE = {"stable_diffusion": 1.0}
"""The least guidance_scale a family takes: 1 is 'no guidance'."""


class ImageFormat(Config):
    """How an image is saved."""

    size_px: pydantic.PositiveInt = 256
    """Height and width; the paper saves 256."""
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


class GeneratorConfig(Config):
    """A text-to-image model and how it is sampled, in diffusers' own words."""

    family: Literal["stable_diffusion"] = "stable_diffusion"
    model_id: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    """A model of the Hub, a local directory in diffusers' format, or `embedded:NAME`."""
    revision: str | None = None
    num_inference_steps: Annotated[pydantic.PositiveInt, pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))] = 50
    scheduler: Annotated[str | None, pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))] = None
    """A diffusers scheduler class; None keeps the one saved with the model."""
    eta: Annotated[float, pydantic.Field(ge=0, le=1, json_schema_extra=dict(PAPER_NOT_GIVEN))] = 0.0
    height: pydantic.PositiveInt | None = None
    width: pydantic.PositiveInt | None = None
    negative_prompt: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        family = data.get("family", "stable_diffusion")
        if family not in FAMILIES:
            raise ValueError(f"there is no generator family '{family}'{nearest(str(family), FAMILIES)}")
        model_id = str(data.get("model_id", ""))
        if model_id.startswith(embedded.PREFIX):
            name = model_id.removeprefix(embedded.PREFIX)
            if name not in embedded.GENERATORS:
                raise ValueError(f"there is no embedded generator '{name}'{nearest(name, embedded.GENERATORS)}")
            return data | {"revision": embedded.asset_revision(name)}
        return data

    @property
    def label(self) -> str:
        """The model's short name, for file names."""
        return self.model_id.removeprefix(embedded.PREFIX).rstrip("/").rsplit("/", 1)[-1].lower()


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
        lowest = LOWEST_GUIDANCE[self.generator.family]
        if self.guidance_scale < lowest:
            raise ValueError(
                f"guidance_scale {self.guidance_scale:g} is below what {self.generator.family} takes; "
                f"give {lowest:g} (no guidance) or more"
            )
        return self

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
