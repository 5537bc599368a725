"""Numbers with intervals, and when one of them differs from another; the grammar `findings` is built from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from syn_ray.report.tables import show_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

SHOWN = 4  # names in one sentence; the rest is counted


@dataclass(frozen=True)
class Estimate:
    """A measured number and its 95% interval; `low` and `high` are NaN where there is none."""

    name: str
    value: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        """Whether an interval is known."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two cannot be told apart: intervals overlap or touch, or one has none."""
        if not (self.has_interval and other.has_interval):
            return True
        return self.low <= other.high and other.low <= self.high

    def numbers(self) -> str:
        """`0.612 (0.600 to 0.624)`."""
        return show_interval(self.value, self.low, self.high)


def at(
    points: pd.DataFrame, eval_set: str, metric: str, size: int | None, curves: Iterable[str] | None = None
) -> list[Estimate]:
    """Estimates of one metric, one per curve that has it, in the order of `curves`; `size` None takes the only size."""
    rows = points[(points["eval_set"] == eval_set) & (points["metric"] == metric)]
    if size is not None:
        rows = rows[rows["dataset_size"] == size]
    columns = ["curve", "value", "low", "high"]
    found = {
        str(name): Estimate(str(name), float(value), float(low), float(high))
        for name, value, low, high in rows[columns].itertuples(index=False)
    }
    return [found[name] for name in (found if curves is None else curves) if name in found]


def ties_with(best: Estimate, others: Sequence[Estimate]) -> list[Estimate]:
    """Those among `others` that are not resolved from `best`."""
    return [other for other in others if best.overlaps(other)]


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
    resolved = not first.overlaps(last)
    if not resolved:
        why = "" if first.has_interval and last.has_interval else " (no interval)"
        return f"{words} goes {span}, not resolved{why}", False
    rising = last.value > first.value
    steps = [(b.value > a.value) == rising for a, b in pairwise(series)]
    detail = "" if len(series) == 2 else (", at every step" if all(steps) else ", though not at every step")
    return f"{words} {'rises' if rising else 'falls'} {span}{detail}", True
