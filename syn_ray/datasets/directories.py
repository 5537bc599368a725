"""Which class the images of a directory are of: by the directory's name, never by its place in the alphabet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from syn_ray.core.errors import UserError, nearest
from syn_ray.datasets.vocabulary import ClassInfo

SHOWN = 3
"""Names in one message; the rest is counted."""

Given = Mapping[str, str | int | None]
"""What the user says of directories: a class's name, wnid or label; None leaves the directory out."""


def label_directories(
    names: Sequence[str], classes: Sequence[ClassInfo], given: Given, *, subset: bool, what: str
) -> list[int | None]:
    """The label of each directory; None for one that is left out.

    A directory is named by its class's wnid, or by its class's name in any case and with any of space, `_` and `-`
    between words. Where all are numbers and none of them is a class's name, a number is a label.

    Args:
        names: of the directories.
        classes: in label order.
        given: what the user says of single directories; several may hold one class.
        subset: classes may be without a directory.
        what: words for the set in errors.

    Raises:
        UserError: a directory of no class, or that fits several; two directories of one class; a class without.
    """
    strange = sorted(set(given) - set(names))
    if strange:
        raise UserError(f"{what}: labels: there is no directory '{strange[0]}'{nearest(strange[0], names)}")
    places = _places(classes)
    labels = {name: _given_label(name, value, places, classes, what) for name, value in given.items()}
    free = [name for name in names if name not in given]
    if free and all(name.isdecimal() and name not in places for name in free):
        found = {name: [int(name)] if int(name) < len(classes) else [] for name in free}
    else:
        found = {name: places.get(name) or places.get(_plain(name)) or [] for name in free}
    _check_found(found, classes, what)
    labels |= {name: places_of[0] for name, places_of in found.items()}
    absent = sorted(set(range(len(classes))) - set(labels.values()))
    if absent and (not subset or len(absent) == len(classes)):
        raise UserError(
            f"{what} has no directory for {_count(absent, 'class', 'classes')} of {len(classes)} ("
            f"{_list([classes[label].name for label in absent])}); name each by its class, its wnid or its label, or "
            "set subset: true if the set has some of the classes only"
        )
    return [labels[name] for name in names]


def _places(classes: Sequence[ClassInfo]) -> dict[str, list[int]]:
    """The labels that a directory of each name may have."""
    places: dict[str, list[int]] = {}
    for label, info in enumerate(classes):
        for name in {info.name, _plain(info.name), *([info.wnid] if info.wnid else [])}:
            places.setdefault(name, []).append(label)
    return places


def _given_label(
    name: str, value: str | int | None, places: Mapping[str, list[int]], classes: Sequence[ClassInfo], what: str
) -> int | None:
    if value is None:
        return None
    if isinstance(value, int):
        if not 0 <= value < len(classes):
            raise UserError(f"{what}: labels: '{name}': {value} is no label of {len(classes)} classes")
        return value
    found = places.get(value, [])
    if len(found) != 1:
        hint = nearest(value, [info.name for info in classes]) if not found else "; give its label or wnid"
        raise UserError(f"{what}: labels: '{name}': '{value}' is {'no' if not found else 'not one'} class{hint}")
    return found[0]


def _check_found(found: Mapping[str, list[int]], classes: Sequence[ClassInfo], what: str) -> None:
    unknown = [name for name, labels in found.items() if not labels]
    if unknown:
        raise UserError(
            f"{what}: {_count(unknown, 'directory is', 'directories are')} of none of the {len(classes)} classes "
            f"({_list(unknown)}); name each by its class, its wnid or its label, or say what it is: "
            f"labels: {{{unknown[0]}: CLASS}}, null to leave it out"
        )
    holders: dict[int, str] = {}
    for name, labels in found.items():
        if len(labels) > 1:
            raise UserError(
                f"{what}: directory '{name}' fits classes {', '.join(map(str, labels))}; name it by its wnid or label, "
                f"or say which: labels: {{{name}: {labels[0]}}}"
            )
        if labels[0] in holders:
            raise UserError(
                f"{what}: directories '{holders[labels[0]]}' and '{name}' are both of class '{classes[labels[0]].name}'"
                f"; join them, or say what they are: labels: {{{name}: CLASS}}"
            )
        holders[labels[0]] = name


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()


def _count(items: Sequence[object], one: str, many: str) -> str:
    return f"{len(items)} {one if len(items) == 1 else many}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
