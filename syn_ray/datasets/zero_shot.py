"""Finds the classes and prompts with which a data set is judged zero-shot."""

from __future__ import annotations

import dataclasses

from syn_ray import embedded
from syn_ray.core.errors import UserError, nearest
from syn_ray.datasets.downstream import DOWNSTREAM, EMBEDDED_DOWNSTREAM, ZeroShotSet, downstream_set, embedded_set
from syn_ray.datasets.vocabulary import Classes, class_names, open_clip_lists
from syn_ray.embedded.downstream import GARMENT_TEMPLATES

ZERO_SHOT_SETS = ("imagenet", "fashion", *DOWNSTREAM, *EMBEDDED_DOWNSTREAM)
"""Every set whose prompts are known. ImageNet's are those of its shifted sets too, Fashion-MNIST's likewise."""


def named_classes(classes: Classes) -> ZeroShotSet:
    """A vocabulary's own prompts; for a list of classes CLIP's 80 templates of ImageNet."""
    if isinstance(classes, str):
        return zero_shot_set(classes)
    return dataclasses.replace(zero_shot_set("imagenet"), name="classes", class_names=tuple(class_names(classes)))


def zero_shot_set(name: str) -> ZeroShotSet:
    """The classes, templates and metric of a data set.

    Raises:
        UserError: no set has that name.
    """
    if name in DOWNSTREAM:
        return downstream_set(name)
    if name in EMBEDDED_DOWNSTREAM:
        return embedded_set(name)
    if name == "imagenet":
        # open_clip has CLIP's 80 as functions; with a name of "{}" each gives the sentence that format() fills.
        templates = tuple(template("{}") for template in open_clip_lists().OPENAI_IMAGENET_TEMPLATES)
        return ZeroShotSet(name, "ImageNet", tuple(class_names(name)), templates, "top1")
    if name == "fashion":
        return ZeroShotSet(name, "Fashion-MNIST", embedded.CLASS_NAMES, GARMENT_TEMPLATES, "top1")
    raise UserError(f"zero-shot: no prompts are known for '{name}'{nearest(name, ZERO_SHOT_SETS)}")
