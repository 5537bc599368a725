"""Which of a classifier's outputs stand for which class of a study: by what both are called, never by chance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from syn_ray.core.errors import UserError, nearest
from syn_ray.datasets.vocabulary import ClassInfo
from syn_ray.score.config import Output, ScoreConfig

Outputs = tuple[tuple[int, ...], ...]
"""For each class of a study, in label order, the numbers of the outputs that stand for it."""


def match_outputs(
    config: ScoreConfig, classes: Sequence[ClassInfo], count: int, names: Sequence[str] | None
) -> Outputs:
    """The outputs of every class.

    Args:
        config: the classifier, and what the user says of its outputs.
        classes: in label order.
        count: how many outputs it has.
        names: what the outputs are called, by wnid or by name; None where the classifier does not say.

    Raises:
        UserError: a class has no output, or nothing says which it has.
    """
    what = f"score.classifier '{config.classifier}'"
    places = {plain(name): number for number, name in reversed(list(enumerate(names or ())))}
    if config.labels:
        return _as_given(config, classes, count, places)
    if names is None:
        if count != len(classes):
            raise UserError(
                f"{what} has {count} outputs and the study {len(classes)} classes; say which is which "
                "(score.labels: {CLASS: OUTPUT}), give a classifier of these classes, or set score: null"
            )
        return tuple((number,) for number in range(count))
    if [plain(info.name) for info in classes] == [plain(name) for name in names]:
        return tuple((number,) for number in range(count))  # ImageNet has two missiles
    found = [[places[key] for key in (info.wnid, plain(info.name)) if key in places] for info in classes]
    unknown = [info.name for info, outputs in zip(classes, found, strict=True) if not outputs]
    if unknown:
        raise UserError(
            f"{what} has no output for class '{unknown[0]}' ({len(unknown)} of {len(classes)} classes have none); say "
            "which it is (score.labels: {CLASS: OUTPUT}), give a classifier of these classes, or set score: null"
        )
    return _distinct(what, classes, tuple((outputs[0],) for outputs in found))


def _as_given(config: ScoreConfig, classes: Sequence[ClassInfo], count: int, places: Mapping[str, int]) -> Outputs:
    given = dict(config.labels)
    known = {name for info in classes for name in (info.name, info.wnid) if name}
    strange = [name for name in given if name not in known]
    if strange:
        raise UserError(f"score.labels: there is no class '{strange[0]}'{nearest(strange[0], known)}")
    chosen = [given.get(info.wnid or "") or given.get(info.name) for info in classes]
    outputs = []
    for info, numbers in zip(classes, chosen, strict=True):
        if not numbers:
            raise UserError(
                f"score.labels: class '{info.name}' has no output; give one to each of {len(classes)} classes"
            )
        outputs.append(tuple(_number(output, count, places, info) for output in numbers))
    return _distinct("score.labels", classes, tuple(outputs))


def _number(output: Output, count: int, places: Mapping[str, int], info: ClassInfo) -> int:
    if isinstance(output, str):
        if plain(output) not in places:
            hint = nearest(output, places) if len(places) <= 100 else "; give its number"
            raise UserError(f"score.labels: '{info.name}': the classifier has no output '{output}'{hint}")
        return places[plain(output)]
    if not 0 <= output < count:
        raise UserError(f"score.labels: '{info.name}': the classifier has outputs 0 to {count - 1}, not {output}")
    return output


def _distinct(what: str, classes: Sequence[ClassInfo], outputs: Outputs) -> Outputs:
    """The same, where no output stands for two classes."""
    owner: dict[int, str] = {}
    for info, numbers in zip(classes, outputs, strict=True):
        for number in numbers:
            if number in owner:
                raise UserError(
                    f"{what}: output {number} stands for both '{owner[number]}' and '{info.name}'; give each class its "
                    "own (score.labels)"
                )
            owner[number] = info.name
    return outputs


def plain(name: str) -> str:
    """A name without what spellings differ in: letters' case, spaces, underscores and hyphens."""
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()
