"""The shifted evaluation sets, made by rule from the first `val` images: what ImageNet-Sketch and -R are to ImageNet.

Pure functions on uint8 arrays [n, 32, 32]; nothing is stored, the sets are made when first used. The background stays
black in both: every training image has it, and on white paper a classifier is near chance (measured: accuracy 0.15),
which compares nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_EDGE_GAIN = 1.6
_OBJECT_LEVEL = 12  # grey levels above this belong to the object, as in captions.py
_RENDITION_LEVELS = 4


def sketch(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Chalk lines on a black board where grey levels change: outlines, seams, straps (Sobel's filter)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.float64)
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    along = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    strength = np.hypot(down[:, :, 2:] - down[:, :, :-2], along[:, 2:] - along[:, :-2]) / 4
    return np.minimum(_EDGE_GAIN * strength, 255).round().astype(np.uint8)


def rendition(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The garment inverted and reduced to four grey levels, as in a block print."""
    step = 255 / (_RENDITION_LEVELS - 1)
    levels = np.round((255.0 - images) / step) * step
    return np.where(images > _OBJECT_LEVEL, levels, 0).astype(np.uint8)


SHIFTS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {"sketch": sketch, "rendition": rendition}
"""The rules by the name of their evaluation set."""
