"""Labels as files hold them, numbers or names, brought into the order of the classes that a study names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from syn_ray.core.errors import UserError, nearest


def read_labels(
    values: Sequence[Any], classes: Sequence[str] | None, own_names: Sequence[str] | None, what: str
) -> npt.NDArray[np.int32]:
    """Labels of images.

    Args:
        values: integers, or names of classes; one for each image.
        classes: the names by label that are wanted. None: numbers stay, names get the numbers of their sorted order.
        own_names: what the files say their numbers mean.
        what: words for the set in errors.

    Raises:
        UserError: there are no images; a label is missing, or is none of the classes; the files' names and `classes`
            contradict each other.
    """
    if not values:
        raise UserError(f"{what} holds no images; check its path")
    for position, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | str) or not isinstance(value, type(values[0])):
            raise UserError(f"{what}, image {position}: its label is {value!r}; give all a number, or all a name")
    if isinstance(values[0], str):
        return _from_names(values, classes, what)
    numbers = np.array(values, dtype=np.int64)
    count = len(own_names or classes or ()) or int(numbers.max()) + 1
    beyond = np.flatnonzero((numbers < 0) | (numbers >= count))
    if len(beyond):
        raise UserError(
            f"{what}, image {beyond[0]}: label {numbers[beyond[0]]} is beyond its {count} classes; correct `classes`"
        )
    if classes is not None and own_names is not None:
        numbers = _reordering(own_names, classes, what)[numbers]
    return numbers.astype(np.int32)


def _from_names(values: Sequence[str], classes: Sequence[str] | None, what: str) -> npt.NDArray[np.int32]:
    names = sorted(set(values)) if classes is None else classes
    places = {plain(name): label for label, name in reversed(list(enumerate(names)))}
    for position, value in enumerate(values):
        if plain(value) not in places:
            raise UserError(f"{what}, image {position}: '{value}' is none of its classes{nearest(value, names)}")
    return np.array([places[plain(value)] for value in values], dtype=np.int32)


def _reordering(own_names: Sequence[str], classes: Sequence[str], what: str) -> npt.NDArray[np.int64]:
    """The wanted label of each of the files' labels.

    Where the files' names are among the wanted ones (all of them in another order, or ImageNet-A's 200), a name says
    its label. Where they are other words (EuroSAT's "AnnualCrop" for CLIP's "annual crop land"), the order is taken to
    be the same, unless a name that both have contradicts it.
    """
    own, wanted = [plain(name) for name in own_names], [plain(name) for name in classes]
    places = [[label for label, other in enumerate(wanted) if other == name] for name in own]
    if own != wanted and all(places) and len(set(own)) == len(own):
        labels = _in_order(places) if any(len(found) > 1 for found in places) else [found[0] for found in places]
        if labels is not None:
            return np.array(labels)
    if len(own) != len(wanted):
        raise UserError(f"{what} has {len(own)} classes, `classes` lists {len(wanted)}; give the list of this set")
    for label, found in enumerate(places):
        if found and label not in found:
            raise UserError(
                f"{what}: label {label} is '{own_names[label]}' in its files and '{classes[label]}' in `classes`; "
                "give the classes in the files' order"
            )
    return np.arange(len(own))


def _in_order(places: Sequence[Sequence[int]]) -> list[int] | None:
    """One of each class's places, rising; None where no choice rises, or several do (ImageNet has two missiles)."""
    first: list[int] = []
    last: list[int] = []
    for found in places:
        first += [place for place in found if place > (first[-1] if first else -1)][:1]
    for found in reversed(places):
        last += [place for place in reversed(found) if not last or place < last[-1]][:1]
    return first if len(first) == len(places) and first == last[::-1] else None


def plain(name: str) -> str:
    """A class name without what spellings differ in: letters' case, spaces, underscores, hyphens and slashes."""
    return " ".join(re.split(r"[\s_/-]+", name.casefold())).strip()
