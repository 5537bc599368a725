"""Classifiers as the paper's authors have released them: flat files of timm's weights, one for each dataset size."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import timm
import torch

from syn_ray.core.errors import UserError

ARCHITECTURE = "vit_base_patch16_224"
IMAGE_PX = 224
RESIZE_PX = 256
MEAN = STD = (0.5, 0.5, 0.5)
"""The authors' evaluation: shortest side to 256 px, bilinear, centre 224 px, [-1, 1]; `decode_images` and `predict`."""


def load_released_classifier(
    path: str | Path, architecture: str = ARCHITECTURE, **model_kwargs: Any
) -> torch.nn.Module:
    """A timm ViT with a class token and a linear head, in eval mode.

    Args:
        path: a flat state dict (.pt), float tensors by timm's names.
        architecture: the timm model they are of.
        model_kwargs: that model's arguments, where it was made with some.

    Raises:
        UserError: the file is not there, holds something else, or another model's weights.
    """
    path = Path(path)
    weights = _read(path)
    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        model: torch.nn.Module = timm.create_model(
            architecture, num_classes=len(weights["head.weight"]), **model_kwargs
        )
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"checkpoint '{path}' is not of {architecture}: {reason}") from None
    return model.float().eval()


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(f"checkpoint '{path}' is not there; give a released .pt file")
    try:
        weights: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"checkpoint '{path}' cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(weights, dict) or not isinstance(weights.get("head.weight"), torch.Tensor):
        raise UserError(f"checkpoint '{path}' holds no weights of a classifier by timm's names (no 'head.weight')")
    return weights
