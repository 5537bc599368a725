"""What a CLIP training run is. How it runs (workers, GPUs, caches) stands in `core.resources.TrainResources`.

The paper gives the model, the epochs (appendix B) and the arms; every other default here stands in
for a value that could not be found, is marked so, and is listed in the report.

Source of the stand-ins: open_clip's LAION-400M recipe for ViT-B/16 (its README and PRETRAINED.md).
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import Field

from syn_ray.core.config import PAPER_NOT_GIVEN, Config
from syn_ray.core.errors import UserError, nearest
from syn_ray.train.stream_config import StreamConfig, check_stream

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_NOT_GIVEN: JsonDict = {**PAPER_NOT_GIVEN}
SIMPLE_VOCABULARY = 49408
"""Tokens of open_clip's own tokenizer."""
_SIGLIP_START = {"init_logit_scale": math.log(10), "init_logit_bias": -10.0}  # open_clip_train/main.py


class ClipAugmentConfig(Config):
    """What is done to an image at each visit."""

    crop: Literal["random_resized", "shift"] = Field("random_resized", json_schema_extra=_NOT_GIVEN)
    """`random_resized`: as open_clip's training transform. `shift`: a padded image moved by at most `shift_px`, for
    small images; others are resized and cropped first, as for evaluation."""
    crop_scale: tuple[float, float] = Field((0.9, 1.0), json_schema_extra=_NOT_GIVEN)
    """Smallest and largest area of a random crop, as fractions of the image."""
    shift_px: pydantic.NonNegativeInt = 2
    flip_probability: float = Field(0.0, ge=0, le=1, json_schema_extra=_NOT_GIVEN)
    """open_clip mirrors nothing: captions speak of left and right."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> ClipAugmentConfig:
        smallest, largest = self.crop_scale
        if not 0 < smallest <= largest <= 1:
            raise ValueError(f"crop_scale {list(self.crop_scale)} is no range of fractions; give e.g. [0.9, 1.0]")
        return self


class ClipOptimizerConfig(Config):
    """AdamW with warm-up and cosine decay to zero."""

    learning_rate: pydantic.PositiveFloat = Field(5e-4, json_schema_extra=_NOT_GIVEN)
    """The peak, for the global batch size as configured: nothing rescales it."""
    betas: tuple[float, float] = Field((0.9, 0.98), json_schema_extra=_NOT_GIVEN)
    eps: pydantic.PositiveFloat = Field(1e-6, json_schema_extra=_NOT_GIVEN)
    weight_decay: pydantic.NonNegativeFloat = Field(0.2, json_schema_extra=_NOT_GIVEN)
    """Decoupled, on matrices and embeddings, as open_clip does: norms, biases, gains and the logit scale take none."""
    warmup_steps: pydantic.NonNegativeInt = Field(2000, json_schema_extra=_NOT_GIVEN)
    """Steps in which the learning rate rises, at most `warmup_fraction` of the run: 32 epochs of 1M pairs are fewer."""
    warmup_fraction: float = Field(0.1, ge=0, lt=1, json_schema_extra=_NOT_GIVEN)
    grad_clip: pydantic.NonNegativeFloat = Field(1.0, json_schema_extra=_NOT_GIVEN)
    """Largest gradient norm over all parameters; 0 is no clipping."""


class ClipConfig(Config):
    """An open_clip model trained from scratch on images and their captions."""

    objective: Literal["clip"] = "clip"
    model: str = "ViT-B-16-quickgelu"
    """An open_clip model's name; with `model_cfg`, a name of one's own. The default is ViT-B-16 with QuickGELU, as the
    authors' checkpoints need it."""
    model_cfg: dict[str, Any] | None = None
    """A model that open_clip does not have, in its own JSON layout: embed_dim, vision_cfg, text_cfg, quick_gelu, ..."""
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    batch_size: pydantic.PositiveInt = Field(32768, json_schema_extra=_NOT_GIVEN)
    """Pairs in one step, over all workers; a smaller dataset is one batch, so that no batch holds a pair twice."""
    micro_batch_size: pydantic.PositiveInt | None = None
    """Pairs that go through the model at once, on each worker; None is all of them. Saves memory for a second forward
    pass, and changes nothing beyond float rounding: every pair is still compared with the whole batch."""
    epochs: pydantic.PositiveInt = 32
    """At every dataset size (paper, appendix B)."""
    loss: Literal["clip", "siglip"] = "clip"
    """`siglip`: pairwise sigmoids; the model then starts with a logit scale of 10 and a bias of -10."""
    precision: Literal["float32", "bfloat16"] = Field("float32", json_schema_extra=_NOT_GIVEN)
    """`bfloat16`: autocast; weights, optimizer, logits and loss stay float32."""
    augment: ClipAugmentConfig = ClipAugmentConfig()
    optimizer: ClipOptimizerConfig = ClipOptimizerConfig()
    stream: StreamConfig | None = Field(None, exclude_if=lambda stream: stream is None)
    """For datasets that memory does not hold. Not written where it is None, and then no part of the fingerprint."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> ClipConfig:
        if self.model_cfg is None:
            _built_in(self.model)
        else:
            _check_layout(self.model, self.model_cfg)
        check_stream(self.stream, self.batch_size)
        return self

    @property
    def architecture(self) -> dict[str, Any]:
        """The model in open_clip's JSON layout; what it starts from is part of it."""
        found = self.model_cfg or _built_in(self.model)
        if self.loss == "clip":
            return found
        return _SIGLIP_START | {name: value for name, value in found.items() if value is not None}

    @property
    def image_px(self) -> int:
        """Side of the square that the model sees."""
        return int(self.architecture["vision_cfg"].get("image_size", 224))


def _built_in(name: str) -> dict[str, Any]:
    """open_clip's own file of a model; the package itself is not imported, because that takes seconds."""
    files = _built_in_files()
    if name.startswith("coca_"):
        raise UserError(f"model: '{name}' is a CoCa model, whose second loss is not trained here; choose another")
    if name not in files:
        hint = nearest(name, files)
        raise UserError(
            f"model: open_clip has no '{name}'{hint if 'mean' in hint else '; open_clip.list_models() names them all'}"
        )
    found: dict[str, Any] = json.loads(files[name].read_text())
    return found


def _built_in_files() -> dict[str, Path]:
    """The contrastive ones; CoCa's loss has another part, which this project does not train."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "model_configs"
    return {path.stem: path for path in folder.glob("*.json") if not path.stem.startswith("coca_")}


def _check_layout(name: str, model_cfg: dict[str, Any]) -> None:
    if name in _built_in_files():
        raise ValueError(f"model: '{name}' is open_clip's own; give the one in model_cfg another name")
    for key in ("embed_dim", "vision_cfg", "text_cfg"):
        if key not in model_cfg:
            raise ValueError(f"model_cfg: '{key}' is missing; see open_clip/model_configs/ViT-B-16.json for the layout")
    if "multimodal_cfg" in model_cfg:
        raise ValueError("model_cfg: 'multimodal_cfg' makes a CoCa model, which is not trained here; leave it out")
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if not isinstance(vision, dict) or not isinstance(text, dict):
        problem = "model_cfg: vision_cfg and text_cfg hold settings, e.g. {layers: 2, width: 64}"
        raise ValueError(problem)  # noqa: TRY004 - pydantic reports ValueErrors
    size = vision.get("image_size", 224)
    if not isinstance(size, int):
        problem = f"model_cfg: vision_cfg.image_size {size} is not the side of a square; give one number"
        raise ValueError(problem)  # noqa: TRY004 - as above
    vocabulary = text.get("vocab_size", SIMPLE_VOCABULARY)
    if vocabulary != SIMPLE_VOCABULARY and not text.get("hf_tokenizer_name"):
        raise ValueError(
            f"model_cfg: text_cfg.vocab_size {vocabulary} is not the {SIMPLE_VOCABULARY} tokens of open_clip's "
            "tokenizer; leave it out, or name another tokenizer in hf_tokenizer_name"
        )
