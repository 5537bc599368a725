"""An open_clip model as it is judged: from where it is loaded, how it sees images, its features of images and texts."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from open_clip.transform import MaybeToTensor
from safetensors import SafetensorError
from torchvision.transforms import Compose, Normalize

from syn_ray.core.errors import UserError
from syn_ray.shards.decode import decode_with, image_bytes, normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

RELEASED_ARCHITECTURE = "ViT-B-16"
"""Of the authors' CLIP checkpoints, whose activation is QuickGELU although this configuration's is GELU."""
FORMAT_ERRORS = (SafetensorError, pickle.UnpicklingError)
"""What readers of weights raise for files that are none, beside Python's own errors."""


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How a model sees an image: open_clip's transform for evaluation, split where pixels become numbers."""

    size: tuple[int, int]
    """Height and width in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    fill_color: int

    @classmethod
    def of(cls, model: Any) -> Preprocess:
        """What the model was loaded with; OpenAI's mean and deviation, bicubic, where its files say nothing else."""
        values = model.visual.preprocess_cfg
        size = values["size"]
        return cls(
            size=(size, size) if isinstance(size, int) else tuple(size),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            interpolation=values["interpolation"],
            resize_mode=values["resize_mode"],
            fill_color=values["fill_color"],
        )

    @property
    def pixels(self) -> str:
        """Names what decides the decoded pixels: a set is decoded once for all models that agree in it."""
        return f"{self.size[0]}x{self.size[1]}-{self.interpolation}-{self.resize_mode}-{self.fill_color}"

    def decode(self, table: pa.Table) -> torch.Tensor:
        """Every image of a table's column `image`, as uint8 [images, 3, height, width]."""
        chain = open_clip.image_transform(
            self.size,
            is_train=False,
            resize_mode=self.resize_mode,
            interpolation=self.interpolation,
            fill_color=self.fill_color,
        )
        fit = Compose([step for step in chain.transforms if not isinstance(step, MaybeToTensor | Normalize)])
        images = torch.empty((table.num_rows, 3, *self.size), dtype=torch.uint8)
        for row, data in enumerate(image_bytes(table)):
            images[row] = decode_with(data, fit)
        return images


@dataclasses.dataclass(frozen=True)
class ClipModel:
    """A model, the tokenizer of its texts and its view of images."""

    model: Any
    """Of open_clip, which has no annotations: `encode_image`, `encode_text`, `logit_scale`."""
    tokenizer: Callable[[Sequence[str]], torch.Tensor]
    preprocess: Preprocess

    def encode_images(self, images: torch.Tensor, *, device: torch.device | str, batch_size: int = 256) -> torch.Tensor:
        """Features of uint8 images from `Preprocess.decode`: [images, width], each of length 1."""
        model = self.model.to(device).eval()
        features = []
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                batch = images[start : start + batch_size].to(device)
                batch = normalize(batch, self.preprocess.mean, self.preprocess.std)
                features.append(model.encode_image(batch, normalize=True).float().cpu())
        return torch.cat(features)

    def encode_texts(self, texts: Sequence[str], *, device: torch.device | str, batch_size: int = 256) -> torch.Tensor:
        """Features of texts: [texts, width], each of length 1. What is beyond the model's context is cut off."""
        model = self.model.to(device).eval()
        features = []
        with torch.inference_mode():
            for start in range(0, len(texts), batch_size):
                tokens = self.tokenizer(list(texts[start : start + batch_size])).to(device)
                features.append(model.encode_text(tokens, normalize=True).float().cpu())
        return torch.cat(features)


def load_clip(path: str | Path, architecture: str = RELEASED_ARCHITECTURE) -> ClipModel:
    """Loads a trained CLIP model.

    Args:
        path: a directory with open_clip_config.json and weights, as open_clip's `local-dir:` takes it; or a file of
            weights (a flat state dict), as the paper's authors have released them.
        architecture: the open_clip model that a file's weights are of; QuickGELU is forced on. A directory says itself.

    Raises:
        UserError: neither, or weights that are another model's.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"CLIP model '{path}' is not there; give a directory with open_clip_config.json, or a .pt file")
    name = f"local-dir:{path}" if path.is_dir() else architecture
    try:
        if path.is_dir():
            model = open_clip.create_model(name, require_pretrained=True)
        else:
            model = open_clip.create_model(name, str(path), force_quick_gelu=True, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, *FORMAT_ERRORS) as error:
        kind = "open_clip directory" if path.is_dir() else f"file of {architecture}"
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"CLIP model '{path}' is no whole {kind}; export it again: {reason}") from None
    return ClipModel(model.eval(), tokenizer, Preprocess.of(model))
