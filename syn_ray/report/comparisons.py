"""Numbers with intervals, and when one of them differs from another; the grammar `findings` is built from.

Two curves are told apart by the interval of their difference, paired over the test images that both have seen, where it
is at hand. Elsewhere their own intervals must not overlap, which is stricter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from syn_ray.report.inputs import POWER
from syn_ray.report.tables import show_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SHOWN = 4  # names in one sentence; the rest is counted


@dataclass(frozen=True)
class Finding:
    """One sentence or two of the answer.

    Attributes:
        topic: `loss`, `real`, `sets`, `scaling`, `guidance`, `prompts`, `generator`, `mixing` or `reading`.
        text: The words, with curve names in backticks.
        resolved: Whether the comparison is resolved; None where nothing is compared.
    """

    topic: str
    text: str
    resolved: bool | None = None


@dataclass(frozen=True)
class Estimate:
    """A measured number and its 95% interval; `low` and `high` are NaN where there is none."""

    name: str
    value: float
    low: float
    high: float
    resolved: Mapping[tuple[str, str], bool] = field(default_factory=dict, compare=False, repr=False)
    """By names of curves: whether their paired difference leaves out 0."""

    @property
    def has_interval(self) -> bool:
        """Whether an interval is known."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def paired_with(self, other: Estimate) -> bool:
        """Whether the difference of the two is known."""
        return (self.name, other.name) in self.resolved

    def ties(self, other: Estimate) -> bool:
        """Whether they cannot be told apart: their difference may be 0, intervals overlap or touch, or one has none."""
        if self.paired_with(other):
            return not self.resolved[self.name, other.name]
        if not (self.has_interval and other.has_interval):
            return True
        return self.low <= other.high and other.low <= self.high

    def numbers(self) -> str:
        """`0.612 (0.600 to 0.624)`."""
        return show_interval(self.value, self.low, self.high)


class Evidence:
    """What findings compare.

    Args:
        points: As `tables.point_table` gives them.
        comparisons: Paired differences (`inputs.COMPARISON_COLUMNS`), where they are at hand.
    """

    def __init__(self, points: pd.DataFrame, comparisons: pd.DataFrame | None = None) -> None:
        self.points = points
        self._resolved: dict[tuple[str, str, int | None], dict[tuple[str, str], bool]] = {}
        if comparisons is None:
            return
        columns = ["eval_set", "metric", "dataset_size", "a", "b", "low", "high"]
        for eval_set, metric, size, a, b, low, high in comparisons[columns].itertuples(index=False):
            place = (str(eval_set), str(metric), None if pd.isna(size) else int(size))
            self._resolved.setdefault(place, {}).update(dict.fromkeys([(a, b), (b, a)], not low <= 0 <= high))

    def at(self, eval_set: str, metric: str, size: int | None, curves: Iterable[str] | None = None) -> list[Estimate]:
        """Estimates of one metric, one per curve that has it, in the order of `curves`; `size` None: the only size."""
        rows = self.points[(self.points["eval_set"] == eval_set) & (self.points["metric"] == metric)]
        if size is not None:
            rows = rows[rows["dataset_size"] == size]
        return self._estimates(rows, "value", (eval_set, metric, size), curves)

    def slopes(self, fits: pd.DataFrame, eval_set: str, curves: Iterable[str]) -> list[Estimate]:
        """The scaling ability of each curve that has a power law, in the order of `curves`."""
        rows = fits[(fits["form"] == POWER) & (fits["eval_set"] == eval_set)]
        return self._estimates(rows, "scaling_ability", (eval_set, "scaling_ability", None), curves)

    def _estimates(
        self, rows: pd.DataFrame, column: str, place: tuple[str, str, int | None], curves: Iterable[str] | None
    ) -> list[Estimate]:
        resolved = self._resolved.get(place, {})
        found = {
            str(name): Estimate(str(name), float(value), float(low), float(high), resolved)
            for name, value, low, high in rows[["curve", column, "low", "high"]].itertuples(index=False)
        }
        return [found[name] for name in (found if curves is None else curves) if name in found]


def ties_with(best: Estimate, others: Sequence[Estimate]) -> list[Estimate]:
    """Those among `others` that are not resolved from `best`."""
    return [other for other in others if best.ties(other)]


def why_tied(best: Estimate, tied: Sequence[Estimate]) -> str:
    """Why these are not resolved from `best`, in words."""
    paired = [best.paired_with(other) for other in tied]
    if all(paired):
        return (
            "the intervals of their differences hold 0" if len(tied) > 1 else "the interval of their difference holds 0"
        )
    return "their intervals overlap" if not any(paired) else "their differences may be 0, or their intervals overlap"


def join(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def name_curves(names: Sequence[str]) -> str:
    """Curve names in backticks, at most `SHOWN` of them."""
    shown = [f"`{name}`" for name in names[:SHOWN]]
    if len(names) > SHOWN:
        return f"{', '.join(shown)} and {len(names) - SHOWN} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def name_ties(estimates: Sequence[Estimate]) -> str:
    """Curve names with their numbers, at most `SHOWN` of them."""
    shown = [f"`{estimate.name}` {estimate.numbers()}" for estimate in estimates[:SHOWN]]
    if len(estimates) > SHOWN:
        return f"{', '.join(shown)} and {len(estimates) - SHOWN} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def compare_change(series: Sequence[Estimate], words: str) -> tuple[str, bool]:
    """How a number changes from the first to the last of a series, in words, and whether the change is resolved."""
    first, last = series[0], series[-1]
    span = f"from {first.numbers()} to {last.numbers()}"
    resolved = not first.ties(last)
    if not resolved:
        known = first.paired_with(last) or (first.has_interval and last.has_interval)
        why = "" if known else " (no interval)"
        return f"{words} goes {span}, not resolved{why}", False
    rising = last.value > first.value
    steps = [(b.value > a.value) == rising for a, b in pairwise(series)]
    detail = "" if len(series) == 2 else (", at every step" if all(steps) else ", though not at every step")
    return f"{words} {'rises' if rising else 'falls'} {span}{detail}", True
