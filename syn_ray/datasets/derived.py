"""The embedded world's small sets for zero-shot evaluation: validation images under other labels, and digits."""

from __future__ import annotations

import io
import lzma
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from syn_ray.datasets.image_set import ImageSet, RealImage
from syn_ray.embedded.downstream import FAMILY_POSITIONS, SHADE_POSITIONS, family_labels, shade_labels

DIGITS = Path(__file__).parent / "data" / "digits.csv.xz"
DIGITS_PX = 32
"""The embedded world's size; the data are 8 px."""


class Relabelled:
    """Some images of a set, with other labels."""

    def __init__(self, images: ImageSet, positions: Sequence[int], labels: npt.NDArray[np.int32]) -> None:
        self._images = images
        self._positions = positions
        self.labels = labels

    def captions(self) -> list[str | None]:
        captions = self._images.captions()
        return [captions[position] for position in self._positions]

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        return self._images.read([self._positions[position] for position in positions])


def families(validation: ImageSet) -> Relabelled:
    """Which family of garments an image shows."""
    return Relabelled(validation, FAMILY_POSITIONS, family_labels(validation.labels[list(FAMILY_POSITIONS)]))


def shades(validation: ImageSet) -> Relabelled:
    """Whether an image is dark, grey or bright for its class."""
    captions = validation.captions()
    return Relabelled(validation, SHADE_POSITIONS, shade_labels([captions[position] for position in SHADE_POSITIONS]))


class Digits:
    """1,797 handwritten digits, bright on black as the garments are."""

    def __init__(self) -> None:
        lines = lzma.decompress(DIGITS.read_bytes()).decode().splitlines()
        rows = np.array([line.split(",") for line in lines if not line.startswith("#")], dtype=np.int32)
        self.labels = rows[:, -1]
        self._levels = rows[:, :-1].reshape(-1, 8, 8)

    def captions(self) -> list[str | None]:
        return [None] * len(self.labels)

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        return [RealImage(_png(self._levels[position]), None) for position in positions]


def _png(levels: npt.NDArray[np.int32]) -> bytes:
    """Grey levels 0 to 16 as a picture of the embedded world's size."""
    small = Image.fromarray((levels * 255 / 16).round().astype(np.uint8))
    buffer = io.BytesIO()
    small.resize((DIGITS_PX, DIGITS_PX), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
