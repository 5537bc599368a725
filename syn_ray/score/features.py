"""What the scoring classifier sees in an image: its answer, and its features."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import timm.data
import torch
from PIL import Image

from syn_ray import embedded
from syn_ray.core.errors import UserError, nearest
from syn_ray.score.config import ScoreConfig


class ScoringClassifier:
    """A pretrained timm classifier with its own preprocessing."""

    def __init__(self, config: ScoreConfig) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model: Any = _load(config).to(self._device).eval()
        settings = timm.data.resolve_model_data_config(self._model)
        self._transform = timm.data.create_transform(**settings, is_training=False)

    @torch.inference_mode()
    def look(self, files: Sequence[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Predicted classes, shape [images], and features before the last layer, shape [images, dimensions]."""
        images = torch.stack([self._transform(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
        maps = self._model.forward_features(images.to(self._device))
        features = self._model.forward_head(maps, pre_logits=True)
        predicted = self._model.get_classifier()(features).argmax(dim=1)
        return predicted.cpu().numpy(), features.float().cpu().numpy()


def _load(config: ScoreConfig) -> torch.nn.Module:
    local = embedded.resolve(config.classifier)
    if local is not None:
        model: torch.nn.Module = timm.create_model(f"local-dir:{local}", pretrained=True)
        return model
    if not timm.is_model(config.classifier):
        raise UserError(
            f"score.classifier: timm has no model '{config.classifier}'"
            f"{nearest(config.classifier, timm.list_pretrained())}"
        )
    try:
        pretrained: torch.nn.Module = timm.create_model(config.classifier, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"score.classifier '{config.classifier}' cannot be loaded: {str(error).splitlines()[0]}; "
            "let this machine reach the model hub once, or give a local-dir: name"
        ) from None
    return pretrained
