"""What a zero-shot classifier of a data set is made from: class names in label order, templates, the set's metric.

Here are the paper's fifteen downstream sets, with CLIP's names and templates (`make_downstream.py` made the file), and
the small sets of the embedded world. `datasets.zero_shot` finds these and those whose names come from elsewhere.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import lzma
from pathlib import Path
from typing import Any, Literal

from syn_ray.embedded import downstream as embedded
from syn_ray.embedded.captions import TONES

PROMPTS = Path(__file__).parent / "data" / "downstream.json.xz"

DOWNSTREAM = {
    "food101": "Food101",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "sun397": "SUN397",
    "cars": "Cars",
    "aircraft": "Aircraft",
    "dtd": "DTD",
    "pets": "Pets",
    "caltech101": "Caltech101",
    "flowers": "Flowers",
    "stl10": "STL10",
    "eurosat": "EuroSAT",
    "resisc45": "RESISC45",
    "gtsrb": "GTSRB",
    "country211": "Country211",
}
"""The sets of the paper's Table 1 in its order, and what it calls them."""

MEAN_PER_CLASS = frozenset({"aircraft", "pets", "caltech101", "flowers"})
"""Sets whose metric is the mean of the classes' accuracies; the others' is top-1. The paper does not say which: this is
SLIP's evaluation of the same sets, and what the paper's figures for Caltech-101 and Flowers fit."""

EMBEDDED_DOWNSTREAM = ("digits", "families", "shades")
"""Small sets that come with the package (`embedded/downstream.py`)."""

Metric = Literal["top1", "mean_per_class"]


@dataclasses.dataclass(frozen=True)
class ZeroShotSet:
    """The classes and prompts of a data set."""

    name: str
    title: str
    """What a table calls it."""
    class_names: tuple[str, ...]
    """By label, in the order that the data set and torchvision give its classes."""
    templates: tuple[str, ...]
    """Sentences with `{}` for the class name; a class is the mean of all of them."""
    metric: Metric


def downstream_set(name: str) -> ZeroShotSet:
    """One of the paper's fifteen.

    Raises:
        KeyError: it is none of `DOWNSTREAM`.
    """
    found = _prompts()[name]
    metric: Metric = "mean_per_class" if name in MEAN_PER_CLASS else "top1"
    return ZeroShotSet(name, DOWNSTREAM[name], tuple(found["classes"]), tuple(found["templates"]), metric)


def embedded_set(name: str) -> ZeroShotSet:
    """One of the small sets.

    Raises:
        KeyError: it is none of `EMBEDDED_DOWNSTREAM`.
    """
    sets = {
        "digits": ZeroShotSet("digits", "Digits", embedded.DIGIT_NAMES, embedded.DIGIT_TEMPLATES, "top1"),
        # Four in ten are tops, one in ten a dress: the mean over classes counts each family alike.
        "families": ZeroShotSet(
            "families", "Families", embedded.FAMILY_NAMES, embedded.GARMENT_TEMPLATES, "mean_per_class"
        ),
        "shades": ZeroShotSet("shades", "Shades", TONES, embedded.SHADE_TEMPLATES, "top1"),
    }
    return sets[name]


@functools.cache
def _prompts() -> dict[str, Any]:
    sets: dict[str, Any] = json.loads(lzma.decompress(PROMPTS.read_bytes()))["sets"]
    return sets
