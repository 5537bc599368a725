"""Which text-to-image model draws, and how: one configuration for each family, in diffusers' own words."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import pydantic

from syn_ray import embedded
from syn_ray.core.config import PAPER_NOT_GIVEN, Config
from syn_ray.core.errors import nearest
from syn_ray.generate.presets import PRESETS, expand_preset

FAMILIES = ("stable_diffusion", "imagen", "muse")
LOWEST_GUIDANCE = 1.0
"""The least guidance_scale of every family: 1 is 'no guidance'."""

G = TypeVar("G", bound="Generator")
_Steps = Annotated[pydantic.PositiveInt, pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))]
_Guidance = Annotated[float, pydantic.Field(ge=LOWEST_GUIDANCE, json_schema_extra=dict(PAPER_NOT_GIVEN))]
_Scheduler = Annotated[str | None, pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))]


class Lora(Config):
    """Low-rank weights that are added to a model when it is loaded."""

    model_id: str
    """A model of the Hub, a directory, or a .safetensors file."""
    revision: str | None = None
    weight_name: str = "pytorch_lora_weights.safetensors"
    """The file in it."""
    scale: float = 1.0


class Generator(Config):
    """What every family has. The input key `preset` stands for the values of `presets.PRESETS`; given keys win."""

    guidance_offset: ClassVar[float] = 0.0
    """guidance_scale minus the guidance in the model's own convention."""

    family: str
    model_id: str
    """A model of the Hub, a local directory in diffusers' format, or `embedded:NAME`."""
    revision: str | None = None
    """A commit, tag or branch of the Hub."""
    variant: str | None = None
    """Which of the model's files, for example `fp16`."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    negative_prompt: str = ""

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _expand(cls, data: Any, handler: pydantic.ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return handler(data)
        values = expand_preset(cls.model_fields["family"].default, data)
        model_id = str(values["model_id"])
        if model_id.startswith(embedded.PREFIX):
            name = model_id.removeprefix(embedded.PREFIX)
            if name not in embedded.GENERATORS:
                raise ValueError(f"there is no embedded generator '{name}'{nearest(name, embedded.GENERATORS)}")
            values["revision"] = embedded.asset_revision(name)
        config = handler(values)
        config.model_fields_set.intersection_update(data)  # a preset's value still stands in for one the paper lacks
        return config

    @property
    def label(self) -> str:
        """The model's short name, for file names."""
        return self.model_id.removeprefix(embedded.PREFIX).rstrip("/").rsplit("/", 1)[-1].lower()

    def native_guidance(self, guidance_scale: float) -> float:
        """A guidance scale in the model's own convention."""
        return round(guidance_scale - self.guidance_offset, 9)  # 1.1 - 1 is not 0.1

    def guidance_scale(self, native_guidance: float) -> float:
        """The inverse of `native_guidance`."""
        return round(native_guidance + self.guidance_offset, 9)


class StableDiffusionConfig(Generator):
    """A latent diffusion model: Stable Diffusion 1 to 3, SDXL and FLUX by their diffusers pipelines."""

    family: Literal["stable_diffusion"] = "stable_diffusion"
    num_inference_steps: _Steps = 50
    scheduler: _Scheduler = None
    """A diffusers scheduler class; None keeps the one saved with the model."""
    scheduler_config: dict[str, bool | int | float | str | None] = pydantic.Field(default_factory=dict)
    """Arguments of the scheduler that replace the saved ones."""
    eta: Annotated[float, pydantic.Field(ge=0, le=1, json_schema_extra=dict(PAPER_NOT_GIVEN))] = 0.0
    height: pydantic.PositiveInt | None = None
    """What the model draws, in pixels; None: what it was trained for. What is saved is `image.size_px`."""
    width: pydantic.PositiveInt | None = None
    max_sequence_length: pydantic.PositiveInt | None = None
    """Tokens of the T5 prompt in SD 3 and FLUX."""
    lora: Lora | None = None


class ImagenConfig(Generator):
    """A cascade of pixel diffusion models: DeepFloyd IF stands in for Imagen, which is not public.

    The source's guidance_scale is that of stage I (64 pixels in IF); stage II enlarges (256 pixels).
    """

    family: Literal["imagen"] = "imagen"
    num_inference_steps: _Steps = 100
    scheduler: _Scheduler = None
    super_resolution_model_id: str | None = None
    """Stage II; None: `model_id` is a directory (or `embedded:NAME`) that holds `stage-1` and `stage-2`."""
    super_resolution_revision: str | None = None
    super_resolution_steps: _Steps = 50
    super_resolution_guidance_scale: _Guidance = 4.0
    super_resolution_scheduler: _Scheduler = None
    noise_level: Annotated[int, pydantic.Field(ge=0, lt=1000, json_schema_extra=dict(PAPER_NOT_GIVEN))] = 250
    """Training step of the noise that is put on stage I's image before stage II."""


class MuseConfig(Generator):
    """A masked-token model: aMUSEd stands in for Muse, which is not public.

    Muse's own guidance t combines logits as (1 + t)·conditional − t·unconditional, so guidance_scale = 1 + t.
    """

    guidance_offset: ClassVar[float] = 1.0

    family: Literal["muse"] = "muse"
    num_inference_steps: _Steps = 12
    temperature: Annotated[tuple[float, float] | float, pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))] = (
        2.0,
        0.0,
    )
    """Of the noise on the tokens' confidence: at the first and the last step; one number falls to 0.01."""
    guidance_schedule: Annotated[
        Literal["constant", "linear"], pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))
    ] = "constant"
    """`linear`: from no guidance at the first step to all of it at the last, as Muse does for the sake of diversity
    (Chang et al., "Muse", 2023, section 2.7); aMUSEd's is constant."""
    guidance_top_p: Annotated[float, pydantic.Field(gt=0, le=1, json_schema_extra=dict(PAPER_NOT_GIVEN))] = 1.0
    """Guidance chooses among the likeliest tokens that hold this share of the probability without it. Below 1 it no
    longer lifts tokens that hardly ever occur there, which tear shapes where guidance is strong."""
    height: pydantic.PositiveInt | None = None
    width: pydantic.PositiveInt | None = None
    micro_conditioning_aesthetic_score: int = 6
    micro_conditioning_crop_coord: tuple[int, int] = (0, 0)

    def guidance_at(self, step: int, guidance_scale: float) -> float:
        """The guidance of a step, counted from 0."""
        if self.guidance_schedule == "constant" or self.num_inference_steps == 1:
            return guidance_scale
        return 1 + (guidance_scale - 1) * step / (self.num_inference_steps - 1)


def _with_family(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    family = data.get("family", PRESETS.get(str(data.get("preset")), {}).get("family", "stable_diffusion"))
    if family not in FAMILIES:
        raise ValueError(f"there is no generator family '{family}'{nearest(str(family), FAMILIES)}")
    return data | {"family": family}


GeneratorConfig = Annotated[
    StableDiffusionConfig | ImagenConfig | MuseConfig,
    pydantic.Field(discriminator="family"),
    pydantic.BeforeValidator(_with_family),
]


def read_generator(data: str) -> GeneratorConfig:
    """A generator's configuration from its JSON."""
    adapter: pydantic.TypeAdapter[GeneratorConfig] = pydantic.TypeAdapter(GeneratorConfig)
    return adapter.validate_json(data)
