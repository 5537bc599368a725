"""Encoded images to tensors: the one way in which training and evaluation see an image.

Images stay PNG or JPEG bytes until they are next to their consumer; a decoded image is uint8 [3, height, width].
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision.transforms.v2 import functional

from syn_ray.core.errors import ShardError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa


def decode_image(data: bytes, resize_px: int | None = None, crop_px: int | None = None) -> torch.Tensor:
    """One image as uint8 [3, height, width], RGB.

    Args:
        data: a PNG or JPEG file.
        resize_px: the shortest side is resized to it (bilinear, antialiased) where it differs. None: it is left alone.
        crop_px: side of the centre crop that follows. None keeps the whole image.

    Raises:
        ShardError: the bytes are no image.

    Source: resize, centre crop and bilinear filter as the authors' evaluation script (syn-rep-learn, `Scaling/`).
    """

    def fit(opened: Image.Image) -> Image.Image:
        image = opened if opened.mode == "RGB" else opened.convert("RGB")
        if resize_px is not None and min(image.size) != resize_px:
            image = functional.resize(image, [resize_px], interpolation=functional.InterpolationMode.BILINEAR)
        if crop_px is not None and image.size != (crop_px, crop_px):
            image = functional.center_crop(image, [crop_px, crop_px])
        return image

    return decode_with(data, fit)


def decode_with(data: bytes, fit: Callable[[Image.Image], Image.Image]) -> torch.Tensor:
    """One image as uint8 [3, height, width], after what `fit` does to it; it must leave it RGB.

    Raises:
        ShardError: the bytes are no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = np.array(fit(opened))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
        raise ShardError(
            f"no readable image in {len(data)} bytes ({error}); run `syn-ray verify` on the source"
        ) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def decode_images(table: pa.Table, crop_px: int, resize_px: int | None = None) -> torch.Tensor:
    """Every image of a table, in its order, as uint8 [images, 3, crop_px, crop_px].

    Args:
        table: has a column `image`, struct{bytes, path}.
        crop_px: side of the centre crop.
        resize_px: the shortest side before the crop, `crop_px` where it is None. An image of that size is not resized.
    """
    images = torch.empty((table.num_rows, 3, crop_px, crop_px), dtype=torch.uint8)
    for row, data in enumerate(image_bytes(table)):
        images[row] = decode_image(data, resize_px or crop_px, crop_px)
    return images


class image_bytes(Sequence[bytes]):  # noqa: N801 (reads as a function: a view of a table, not a thing of its own)
    """The encoded images of a table as a sequence; nothing is copied until one is asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._chunks = [chunk.field("bytes") for chunk in table.column("image").chunks if len(chunk)]
        self._ends = np.cumsum([len(chunk) for chunk in self._chunks], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, row: int) -> bytes:  # type: ignore[override]  # rows are asked for one by one, never as slices
        if not 0 <= row < len(self):
            raise IndexError(row)
        chunk = int(np.searchsorted(self._ends, row, side="right"))
        start = int(self._ends[chunk - 1]) if chunk else 0
        data = self._chunks[chunk][row - start].as_py()
        if not isinstance(data, bytes):
            raise ShardError(f"row {row} has no image bytes; run `syn-ray verify` on the source")
        return data


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """(image / 255 - mean) / std per channel, uint8 [..., 3, height, width] to float32; 0.5 and 0.5 give [-1, 1]."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device).view(-1, 1, 1)
    shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=images.device).view(-1, 1, 1)
    return images.float().mul_(scale).sub_(shift)
