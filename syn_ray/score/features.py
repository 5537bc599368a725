"""What the scoring classifier sees in an image: its answer, and its features."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import timm.data
import torch
from PIL import Image
from safetensors import SafetensorError

from syn_ray import embedded
from syn_ray.core.errors import UserError, nearest
from syn_ray.datasets.vocabulary import ClassInfo
from syn_ray.score.config import LOCAL, ScoreConfig
from syn_ray.score.outputs import Outputs, match_outputs

HUB = "hf-hub:"
UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, SafetensorError)
"""What timm raises about a model that it cannot load."""


class ScoringClassifier:
    """A pretrained timm classifier with its own preprocessing.

    Args:
        config: which one.
        classes: that it is to tell apart, in label order; None: its own outputs.

    Raises:
        UserError: it is not there, or knows not these classes.
    """

    def __init__(self, config: ScoreConfig, classes: Sequence[ClassInfo] | None = None) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model: Any = _load(config)
        self._model = model.to(self._device).eval()
        settings = timm.data.resolve_model_data_config(self._model)
        self._transform = timm.data.create_transform(**settings, is_training=False)
        count = int(self._model.num_classes)
        outputs: Outputs = tuple((number,) for number in range(count))
        if classes is not None:
            outputs = match_outputs(config, classes, count, _output_names(config, self._model))
        most = max(len(numbers) for numbers in outputs)
        # One row a class; a class of fewer outputs names its first one again, which changes no maximum.
        rows = [[*numbers, *numbers[:1] * (most - len(numbers))] for numbers in outputs]
        self._outputs = torch.tensor(rows, device=self._device)

    @torch.inference_mode()
    def look(self, files: Sequence[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Predicted classes, shape [images], and features before the last layer, shape [images, dimensions]."""
        images = torch.stack([self._transform(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
        maps = self._model.forward_features(images.to(self._device))
        features = self._model.forward_head(maps, pre_logits=True)
        logits = self._model.get_classifier()(features)
        predicted = logits[:, self._outputs].amax(dim=2).argmax(dim=1)
        return predicted.cpu().numpy(), features.float().cpu().numpy()


def _output_names(config: ScoreConfig, model: Any) -> list[str] | None:
    """What its outputs are called: as it says itself, or ImageNet's wnids where it is one of timm's."""
    stated = model.pretrained_cfg.get("label_names")
    if stated and len(stated) == model.num_classes:
        return [str(name) for name in stated]
    subset = timm.data.infer_imagenet_subset(model)
    own = config.classifier.startswith((LOCAL, embedded.PREFIX)) or (
        config.classifier.startswith(HUB) and not config.classifier.startswith(f"{HUB}timm/")
    )
    return None if own or subset is None else [str(wnid) for wnid in timm.data.ImageNetInfo(subset).label_names()]


def _load(config: ScoreConfig) -> torch.nn.Module:
    name = config.classifier
    local = embedded.resolve(name)
    if local is None and name.startswith(LOCAL):
        local = Path(name.removeprefix(LOCAL))
        if not local.is_dir() or embedded.compute_revision(local) != config.revision:
            raise UserError(f"score.classifier '{name}' is not the model it was ({config.revision}); restore it")
    if local is None and not name.startswith(HUB) and not timm.is_model(name):
        hint = nearest(name, timm.list_pretrained())
        raise UserError(f"score.classifier: timm has no model '{name}'{hint}")
    try:
        model: torch.nn.Module = timm.create_model(name if local is None else f"{LOCAL}{local}", pretrained=True)
    except UNREADABLE as error:
        remedy = "let this machine reach the model hub once, or give a local-dir: name"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"score.classifier '{name}' cannot be loaded: {reason}; "
            f"{remedy if local is None else 'give a directory that timm has saved a model in'}"
        ) from None
    return model
