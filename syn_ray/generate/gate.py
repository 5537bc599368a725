"""The quality gate: what no training set should hold is caught before it is written."""

from __future__ import annotations

import numpy as np

from syn_ray.generate.config import Gate
from syn_ray.generate.protocol import Pixels


def refused(images: Pixels, gate: Gate) -> list[str | None]:
    """Why each image is refused, or None where it is kept.

    Args:
        images: uint8 [batch, height, width, 3].
        gate: the limits.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        return ["wrong shape"] * len(images)
    brightest = images.max(axis=(1, 2, 3))
    spread = images.std(axis=(1, 2, 3))
    return [_reason(int(high), float(std), gate) for high, std in zip(brightest, spread, strict=True)]


def _reason(brightest: int, std: float, gate: Gate) -> str | None:
    if brightest < gate.least_maximum:
        return "black"
    return "flat" if std < gate.least_std else None
