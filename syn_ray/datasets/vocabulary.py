"""Class names, by the name of a built-in vocabulary or as a list."""

from __future__ import annotations

from collections.abc import Sequence

from syn_ray import embedded
from syn_ray.core.errors import UserError, nearest

Classes = str | tuple[str, ...]
"""A built-in vocabulary's name, or the class names themselves in label order."""
VOCABULARIES = ("fashion", "imagenet")


def class_names(classes: Classes) -> Sequence[str]:
    """The names in label order.

    Raises:
        UserError: no vocabulary has that name.
    """
    if not isinstance(classes, str):
        return classes
    if classes == "fashion":
        return embedded.CLASS_NAMES
    if classes == "imagenet":
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES  # imports torch: only where it is used

        return tuple(IMAGENET_CLASSNAMES)
    raise UserError(f"classes: there is no vocabulary '{classes}'{nearest(classes, VOCABULARIES)}")
