"""Captions of Fashion-MNIST images by rule: "a dark slim plain ankle boot".

Four things are named: tone, shape and pattern, measured on the image, and the class. The words are relative to the
class, so a "wide" trouser is wide for a trouser, and each word says something that its class does not: text controls
more than the label.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from syn_ray.embedded import CLASS_NAMES

TONES = ("dark", "grey", "bright")
SHAPES = ("slim", "medium", "wide")
PATTERNS = ("plain", "two-tone")

OBJECT_LEVEL = 12
"""Grey levels above this belong to the object; the data set's paper-black background has noise up to about 5."""

_BLOCK_PX = 4  # pattern is measured on 4x4 means, coarse enough for an autoencoder that works on 4x4 px blocks to keep

_THRESHOLDS = np.array(
    [
        (128.9, 182.2, 0.6061, 0.6559, 15.43),  # t-shirt
        (157.9, 188.6, 0.3789, 0.4223, 15.85),  # trouser
        (130.4, 187.4, 0.7695, 0.8184, 15.66),  # pullover
        (149.3, 190.5, 0.4057, 0.4946, 15.85),  # dress
        (165.9, 195, 0.7134, 0.8026, 14.1),  # coat
        (113.9, 139.6, 1.45, 2.233, 18.93),  # sandal
        (115.6, 174.4, 0.7077, 0.7803, 14.32),  # shirt
        (128, 153, 2.167, 2.532, 24.01),  # sneaker
        (157.3, 184, 1.042, 1.38, 17.76),  # bag
        (165.1, 185.8, 1.097, 1.388, 19.6),  # ankle boot
    ]
)
"""Per class: thirds of tone and of shape, half of pattern, on the generators' training images (make/thresholds.py)."""


def measure(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Tone, shape and pattern [n, 3] of grey images [n, 32, 32].

    Tone is the object's mean grey level (0 to 255); shape its horizontal over its vertical spread (ratio of standard
    deviations); pattern the standard deviation of its block means in grey levels.
    """
    count, height, width = images.shape
    inside = images > OBJECT_LEVEL
    area = np.maximum(inside.sum(axis=(1, 2)), 1)
    values = np.where(inside, images, 0).astype(np.float64)
    tone = values.sum(axis=(1, 2)) / area

    x, y = np.arange(width), np.arange(height)
    per_column, per_row = inside.sum(axis=1), inside.sum(axis=2)
    spread_x = np.sqrt(np.maximum((per_column * x**2).sum(1) / area - ((per_column * x).sum(1) / area) ** 2, 0.25))
    spread_y = np.sqrt(np.maximum((per_row * y**2).sum(1) / area - ((per_row * y).sum(1) / area) ** 2, 0.25))

    blocks = (count, height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX)
    covered = inside.reshape(blocks).sum(axis=(2, 4))
    means = values.reshape(blocks).sum(axis=(2, 4)) / np.maximum(covered, 1)
    whole = covered >= 0.75 * _BLOCK_PX**2
    wholes = np.maximum(whole.sum(axis=(1, 2)), 1)
    middle = np.where(whole, means, 0).sum(axis=(1, 2)) / wholes
    pattern = np.sqrt((np.where(whole, means - middle[:, None, None], 0) ** 2).sum(axis=(1, 2)) / wholes)
    return np.stack([tone, spread_x / spread_y, pattern], axis=1)


def attributes(images: NDArray[np.uint8], labels: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Indices [n, 3] into TONES, SHAPES and PATTERNS for each image of a known class."""
    measured = measure(images)
    thresholds = _THRESHOLDS[np.asarray(labels, dtype=np.int64)]
    tone = (measured[:, 0:1] >= thresholds[:, 0:2]).sum(axis=1)
    shape = (measured[:, 1:2] >= thresholds[:, 2:4]).sum(axis=1)
    pattern = (measured[:, 2:3] >= thresholds[:, 4:5]).sum(axis=1)
    return np.stack([tone, shape, pattern], axis=1).astype(np.int64)


def compose(tone: int, shape: int, pattern: int, label: int) -> str:
    """The caption for these indices into TONES, SHAPES and PATTERNS, and this class."""
    return f"a {TONES[tone]} {SHAPES[shape]} {PATTERNS[pattern]} {CLASS_NAMES[label]}"


def make_captions(images: NDArray[np.uint8], labels: Sequence[int] | NDArray[np.integer]) -> list[str]:
    """One caption for each image [n, 32, 32] and its label."""
    rows = attributes(images, labels)
    return [
        compose(tone, shape, pattern, int(label))
        for (tone, shape, pattern), label in zip(rows.tolist(), labels, strict=True)
    ]
