"""Tries the model that is to be trained, without weights, before anything is paid for."""

from __future__ import annotations

import torch

from syn_ray.core.errors import UserError, nearest
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.config import ClassifyConfig, TrainConfig

LIBRARY_ERRORS = (AssertionError, RuntimeError, TypeError, ValueError, IndexError)
"""What timm and open_clip raise for models that do not fit together."""


def check_model(config: TrainConfig) -> None:
    """Makes the model on torch's device `meta` and shows it an image, of CLIP with a text.

    Raises:
        UserError: the library has no such model, or not with these settings, or its tokenizer is not there.
    """
    with torch.device("meta"), torch.inference_mode():
        if isinstance(config, ClipConfig):
            _check_clip(config)
        else:
            _check_classifier(config)


def _check_classifier(config: ClassifyConfig) -> None:
    import timm

    from syn_ray.train.model import create_model

    if not timm.is_model(config.model):
        hint = nearest(config.model, timm.list_models("vit_*"))
        raise UserError(f"train.model: timm has no model '{config.model}'{hint if 'mean' in hint else ''}")
    try:
        create_model(config, num_classes=2, seed=0).eval()(torch.zeros(1, 3, config.image_px, config.image_px))
    except UserError as error:
        raise UserError(f"train: {error}") from None
    except LIBRARY_ERRORS as error:
        raise UserError(
            f"train: model '{config.model}' does not go with its model_kwargs and image_px {config.image_px}: "
            f"{_reason(error)}; correct them"
        ) from None


def _check_clip(config: ClipConfig) -> None:
    from syn_ray.train.clip_model import create_clip, create_tokenizer

    try:
        with torch.device("cpu"):
            tokens = create_tokenizer(config)(["a photo"])
        model = create_clip(config, seed=0).eval()
        model(torch.zeros(1, 3, config.image_px, config.image_px), tokens.to("meta"))
    except UserError as error:
        raise UserError(f"train: {error}") from None
    except LIBRARY_ERRORS as error:
        raise UserError(
            f"train: model '{config.model}' does not fit together: {_reason(error)}; correct model_cfg"
        ) from None


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
