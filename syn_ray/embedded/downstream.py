"""Small sets for zero-shot evaluation in the embedded world: their classes, prompts, and labels by rule.

A model that was trained on captions such as "a dark slim plain ankle boot" knows those words only, so the prompts are
made of them: a family is called by the garments in it. `digits` is what such a model never saw, as EuroSAT or GTSRB are
to a model of photographs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from syn_ray.embedded import CLASS_NAMES
from syn_ray.embedded.captions import PATTERNS, SHAPES, TONES

FAMILIES = (
    ("t-shirt", "pullover", "coat", "shirt"),
    ("trouser",),
    ("dress",),
    ("sandal", "sneaker", "ankle boot"),
    ("bag",),
)
"""The garments of each family: tops, bottoms, dresses, footwear, bags."""

FAMILY_NAMES = ("t-shirt, shirt, pullover or coat", "trouser", "dress", "sandal, sneaker or ankle boot", "bag")

GARMENT_TEMPLATES = tuple(
    f"a {tone} {shape} {pattern} {{}}" for tone in TONES for shape in SHAPES for pattern in PATTERNS
)
"""The captions of an unnamed garment."""

SHADE_TEMPLATES = tuple(
    f"a {{}} {shape} {pattern} {name}" for shape in SHAPES for pattern in PATTERNS for name in CLASS_NAMES
)
"""The captions of an unnamed tone."""

DIGIT_NAMES = tuple("0123456789")
DIGIT_TEMPLATES = ('a photo of the number: "{}".',)
"""CLIP's prompt for MNIST."""

FAMILY_POSITIONS = range(2000)
SHADE_POSITIONS = range(2000, 4000)
"""Which images of `val` the two sets are made of: no image stands in both."""


def family_labels(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """The family of each image, from its class."""
    family_of = {CLASS_NAMES.index(name): number for number, names in enumerate(FAMILIES) for name in names}
    return np.array([family_of[int(label)] for label in labels], dtype=np.int32)


def shade_labels(captions: Sequence[str | None]) -> NDArray[np.int32]:
    """The tone that each caption names, the word after its article; it is relative to the class (`captions.py`)."""
    return np.array([TONES.index(str(caption).split()[1]) for caption in captions], dtype=np.int32)
