"""Resume files, and trained models in the form that timm loads without this project."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm.models
import torch

from syn_ray.core.errors import TrainingError

if TYPE_CHECKING:
    from syn_ray.core.storage import Storage
    from syn_ray.train.config import ClassifyConfig


class CheckpointFile:
    """One file that a run continues from; replaced as a whole, so there is always a whole one or none.

    Args:
        directory: where it lies.
        name: its name there.
        run: identifies what is being trained beyond what the training loop itself knows: the fingerprint of the source.
            A file written for another run is refused.
    """

    def __init__(self, directory: Storage, name: str = "checkpoint.pt", run: str = "") -> None:
        self._directory = directory
        self._name = name
        self._run = run

    @property
    def display(self) -> str:
        """The path as a person would write it."""
        return f"{self._directory.display}/{self._name}"

    def save(self, state: dict[str, Any], fingerprint: str) -> None:
        """Writes `state` (tensors and plain values) under the fingerprint of the training run."""
        buffer = io.BytesIO()
        torch.save({"fingerprint": f"{self._run}:{fingerprint}", "state": state}, buffer)
        self._directory.write_bytes(self._name, buffer.getvalue())

    def load(self, fingerprint: str) -> dict[str, Any] | None:
        """The state to continue from, on the CPU; None where nothing was saved.

        Raises:
            TrainingError: the file is unreadable, or belongs to another configuration, dataset size or seed.
        """
        if not self._directory.exists(self._name):
            return None
        data = io.BytesIO(self._directory.read_bytes(self._name))
        remedy = "delete it and run again"
        try:
            saved = torch.load(data, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever zipfile, pickle and its own reader meet in a damaged file
            raise TrainingError(f"{self.display}: no readable checkpoint ({type(error).__name__}); {remedy}") from error
        if not isinstance(saved, dict) or saved.get("fingerprint") != f"{self._run}:{fingerprint}":
            raise TrainingError(f"{self.display}: a checkpoint of another training run; {remedy}")
        state: dict[str, Any] = saved["state"]
        return state

    def delete(self) -> None:
        """Removes the file: the run is complete."""
        self._directory.delete_file(self._name)


def export_model(model: torch.nn.Module, config: ClassifyConfig, directory: Storage) -> None:
    """Writes `config.json` and `model.safetensors`, for `timm.create_model("local-dir:PATH", pretrained=True)`.

    Args:
        model: as `train_classifier` returns it.
        config: the one it was trained with.
        directory: gets the two files.
    """
    preprocessing = {
        "input_size": (3, config.image_px, config.image_px),
        "mean": config.mean,
        "std": config.std,
        "interpolation": "bilinear",
        "crop_pct": config.image_px / config.resize_px,
        "crop_mode": "center",
    }
    with tempfile.TemporaryDirectory() as folder:
        model.to(memory_format=torch.contiguous_format)  # safetensors takes no other
        timm.models.save_for_hf(model, folder, safe_serialization=True, data_config=preprocessing)
        for file in sorted(
            Path(folder).iterdir()
        ):  # config.json before model.safetensors: weights present means complete
            directory.write_bytes(file.name, file.read_bytes())
