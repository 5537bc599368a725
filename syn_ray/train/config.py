"""What a supervised training run is, and the choice between it and CLIP's (`clip_config`).

How a run is made (workers, GPUs, caches) stands in `core.resources.TrainResources`.

The paper gives the backbone, the image size and the number of steps (appendix A); every other default here
stands in for a value that could not be found, is marked so, and is listed in the report.

Source of the stand-ins: big_vision's ViT-B/16 ImageNet recipe ("medium2"), whose evaluation chain the paper shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field

from syn_ray.core.config import PAPER_NOT_GIVEN, Config
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.stream_config import StreamConfig, check_stream

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_NOT_GIVEN: JsonDict = {**PAPER_NOT_GIVEN}
_RESERVED = {"num_classes": "num_classes follows from the source", "drop_path_rate": "use drop_path"}


class AugmentConfig(Config):
    """What is done to an image at each visit, and to pairs of images in a batch."""

    crop: Literal["random_resized", "shift"] = Field("random_resized", json_schema_extra=_NOT_GIVEN)
    """`random_resized`: inception crop. `shift`: a padded image moved by at most `shift_px`, for small images."""
    crop_scale: tuple[float, float] = Field((0.05, 1.0), json_schema_extra=_NOT_GIVEN)
    """Smallest and largest area of an inception crop, as fractions of the image."""
    shift_px: pydantic.NonNegativeInt = 2
    flip_probability: float = Field(0.5, ge=0, le=1, json_schema_extra=_NOT_GIVEN)
    rand_augment_ops: pydantic.NonNegativeInt = Field(2, json_schema_extra=_NOT_GIVEN)
    """Operations an image goes through; 0 is no RandAugment. Costly for small images."""
    rand_augment_magnitude: int = Field(15, ge=0, le=30, json_schema_extra=_NOT_GIVEN)
    erase_probability: float = Field(0.0, ge=0, le=1, json_schema_extra=_NOT_GIVEN)
    mixup_alpha: pydantic.NonNegativeFloat = Field(0.5, json_schema_extra=_NOT_GIVEN)
    """Beta(alpha, alpha) of the mixing weight; 0 is no mixup."""
    cutmix_alpha: pydantic.NonNegativeFloat = Field(0.0, json_schema_extra=_NOT_GIVEN)
    """As mixup_alpha. With both above 0 each pair of images takes one or the other, evenly."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        smallest, largest = self.crop_scale
        if not 0 < smallest <= largest <= 1:
            raise ValueError(f"crop_scale {list(self.crop_scale)} is no range of fractions; give e.g. [0.05, 1.0]")
        return self


class StepsConfig(Config):
    """Optimizer steps, linear in the logarithm of the dataset size.

    Source: paper, appendix A (linear in log size); the line through its two known points, 210k steps at 2M images and
    315k at 64M: steps = 210k + 21k * log2(D / 2M).
    """

    base_steps: pydantic.PositiveFloat = 210_000
    reference_size: pydantic.PositiveFloat = 2_000_000
    steps_per_doubling: pydantic.NonNegativeFloat = 21_000
    factor: pydantic.PositiveFloat = 1.0
    """Scales every number of steps: a cheaper study keeps the schedule's shape."""


class OptimizerConfig(Config):
    """Warm-up and cosine decay to zero, of AdamW or Muon."""

    name: Literal["adamw", "muon"] = Field(
        "adamw", json_schema_extra=_NOT_GIVEN, exclude_if=lambda name: name == "adamw"
    )
    """`muon`: matrices move along their orthogonalised momentum, the rest by AdamW; a small ViT takes a quarter of the
    steps. Not written where it is AdamW, and then no part of the fingerprint: it came after the first results."""
    learning_rate: pydantic.PositiveFloat = Field(1e-3, json_schema_extra=_NOT_GIVEN)
    """The peak, for the global batch size as configured: nothing rescales it."""
    betas: tuple[float, float] = Field((0.9, 0.999), json_schema_extra=_NOT_GIVEN)
    weight_decay: pydantic.NonNegativeFloat = Field(0.1, json_schema_extra=_NOT_GIVEN)
    """Decoupled, on matrices only: norms, biases, tokens and position embeddings take none."""
    warmup_fraction: float = Field(0.05, ge=0, lt=1, json_schema_extra=_NOT_GIVEN)
    """Share of the steps in which the learning rate rises; 0.05 is big_vision's 10k of 210k."""
    grad_clip: pydantic.NonNegativeFloat = Field(1.0, json_schema_extra=_NOT_GIVEN)
    """Largest gradient norm over all parameters; 0 is no clipping."""
    ema_decay: float = Field(0.0, ge=0, lt=1, json_schema_extra=_NOT_GIVEN)
    """Moving average of the weights, which is then what is evaluated; 0 is none."""


class ClassifyConfig(Config):
    """A ViT trained from scratch on labelled images."""

    objective: Literal["classify"] = Field("classify", exclude=True)
    """Not written, and so no part of the fingerprint: it came after the first results."""
    model: str = "vit_base_patch16_224"
    """A timm model's name."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of that model, e.g. {img_size: 32, patch_size: 8, embed_dim: 64, depth: 4, num_heads: 4}."""
    image_px: pydantic.PositiveInt = 224
    """Side of the square the model sees. The paper trains on 256 px images and evaluates at 224 (authors' script)."""
    resize_px: pydantic.PositiveInt = 256
    """Shortest side before the centre crop, in evaluation and for crop `shift`."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    batch_size: pydantic.PositiveInt = Field(4096, json_schema_extra=_NOT_GIVEN)
    """Images in one step, over all workers."""
    label_smoothing: float = Field(0.0, ge=0, lt=1, json_schema_extra=_NOT_GIVEN)
    drop_path: float = Field(0.0, ge=0, lt=1, json_schema_extra=_NOT_GIVEN)
    precision: Literal["float32", "bfloat16"] = Field("float32", json_schema_extra=_NOT_GIVEN)
    """`bfloat16`: autocast; weights and optimizer stay float32. Slower than float32 for small models on a CPU."""
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    steps: StepsConfig = StepsConfig()
    stream: StreamConfig | None = Field(None, exclude_if=lambda stream: stream is None)
    """For datasets that memory does not hold. Not written where it is None, and then no part of the fingerprint."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> ClassifyConfig:
        for key in sorted(_RESERVED.keys() & self.model_kwargs.keys()):
            raise ValueError(f"model_kwargs: '{key}' is not given here: {_RESERVED[key]}")
        if not self.image_px <= self.resize_px <= 1.5 * self.image_px:
            raise ValueError(
                f"resize_px {self.resize_px} does not go with image_px {self.image_px}: outside 1 to 1.5 times "
                f"image_px the centre crop loses most of the image; set resize_px to {round(self.image_px * 8 / 7)}, "
                f"or to {self.image_px} for images that have this size"
            )
        if self.mixes and self.batch_size % 2:
            raise ValueError(f"batch_size {self.batch_size} is odd, but mixup and cutmix take pairs; give an even one")
        check_stream(self.stream, self.batch_size)
        return self

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs."""
        return self.augment.mixup_alpha > 0 or self.augment.cutmix_alpha > 0


def objective_of(value: Any) -> Any:
    """What a training configuration, or what is to become one, says it trains."""
    return value.get("objective", "classify") if isinstance(value, dict) else getattr(value, "objective", None)


TrainConfig = Annotated[
    Annotated[ClassifyConfig, pydantic.Tag("classify")] | Annotated[ClipConfig, pydantic.Tag("clip")],
    pydantic.Discriminator(
        objective_of,
        custom_error_type="objective",
        custom_error_message="there is no such objective; choose from classify, clip",
    ),
]
"""What a study trains; `classify` where it does not say."""
