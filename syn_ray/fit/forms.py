"""The shapes a loss curve may have: what each predicts, and where a search for its parameters starts.

Every form works on `x = ln D - mean(ln D)` and returns ln loss, so that a fit does not depend on the unit of D.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BREAK_WIDTH = 0.2
"""Width in ln D over which `broken` bends: a fraction of a doubling (0.69), as finer than the sizes cannot be seen."""

LARGEST_EXPONENT = 5.0
"""A fit that wants a larger exponent has run away: measured ones lie between 0 and 1."""


@dataclass(frozen=True)
class Form:
    """One shape of ln loss over ln D.

    Args:
        name: What users call it.
        equation: For the report.
        parameters: Their names, in the order of theta. `k` is the scaling ability.
        predict: `(theta [..., parameters], x [runs]) -> ln loss [..., runs]`.
        starts: `(x, y) -> thetas` to start a search from; fixed, so that a fit is deterministic.
        bounds: `(x [runs], y [..., runs]) -> (low, high)` of theta, each [..., parameters].
        runaway: Parameters that mean "not determined by the points" when they end on their upper bound.
    """

    name: str
    equation: str
    parameters: tuple[str, ...]
    predict: Callable[[Floats, Floats], Floats]
    starts: Callable[[Floats, Floats], list[Floats]]
    bounds: Callable[[Floats, Floats], tuple[Floats, Floats]]
    runaway: tuple[str, ...] = ()

    @property
    def sizes_needed(self) -> int:
        """One distinct dataset size more than parameters, so that something is left to judge the fit by."""
        return len(self.parameters) + 1

    @property
    def k_index(self) -> int:
        """Position of the scaling ability in theta."""
        return self.parameters.index("k")


def line(x: Floats, y: Floats) -> tuple[float, float]:
    """Level at `x = 0` and scaling ability of the least-squares line `y = level - k x`."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return float(y.mean() - slope * x.mean()), -slope


def _columns(theta: Floats) -> Iterator[Floats]:
    """The parameters one by one, each [..., 1], to be met by x."""
    return (theta[..., position, None] for position in range(theta.shape[-1]))


def _box(y: Floats, ends: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[Floats, Floats]:
    """Bounds from `(low, high)` of each parameter, repeated where there are many curves y."""
    low, high = ([np.broadcast_to(np.asarray(end[side], np.float64), y.shape[:-1]) for end in ends] for side in (0, 1))
    return np.stack(low, axis=-1), np.stack(high, axis=-1)


def _power(theta: Floats, x: Floats) -> Floats:
    level, k = _columns(theta)
    return np.asarray(level - k * x)


def _power_starts(x: Floats, y: Floats) -> list[Floats]:
    return [np.array(line(x, y))]


def _unbounded(_x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return _box(y, [(-np.inf, np.inf)] * 2)


def _power_offset(theta: Floats, x: Floats) -> Floats:
    level, k, floor = _columns(theta)
    return np.asarray(np.log(floor + np.exp(np.clip(level - k * x, -50.0, 50.0))))


def _power_offset_starts(x: Floats, y: Floats) -> list[Floats]:
    """For each guess of the floor the rest is a straight line."""
    floors = np.exp(y.min()) * np.array([0.0, 0.25, 0.5, 0.75, 0.9, 0.97])
    lines = [(line(x, np.log(np.exp(y) - floor)), floor) for floor in floors]
    return [np.array([level, np.clip(k, 1e-6, LARGEST_EXPONENT - 1e-6), floor]) for (level, k), floor in lines]


def _power_offset_bounds(_x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return _box(y, [(-np.inf, np.inf), (0.0, LARGEST_EXPONENT), (0.0, np.exp(y.min(axis=-1)))])


def _broken(theta: Floats, x: Floats) -> Floats:
    level, k, k_after, bend = _columns(theta)
    return np.asarray(level - k * x + (k - k_after) * BREAK_WIDTH * np.logaddexp(0.0, (x - bend) / BREAK_WIDTH))


def _broken_starts(x: Floats, y: Floats) -> list[Floats]:
    """For each guess of the bend the rest is linear."""
    sizes = np.unique(x)
    starts = []
    for bend in (sizes[1:-1] + sizes[2:]) / 2:
        ramp = BREAK_WIDTH * np.logaddexp(0.0, (x - bend) / BREAK_WIDTH)
        level, k, k_after = np.linalg.lstsq(np.stack([np.ones_like(x), ramp - x, -ramp], axis=1), y, rcond=None)[0]
        starts.append(np.array([level, k, k_after, bend]))
    return starts


def _broken_bounds(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Two sizes on either side at least, or one of the slopes is free."""
    sizes = np.unique(x)
    return _box(y, [(-np.inf, np.inf)] * 3 + [(sizes[1], sizes[-2])])


def _m4(theta: Floats, x: Floats) -> Floats:
    level, k, floor, ceiling = _columns(theta)
    progress = np.exp(np.clip(level - k * x, -50.0, 50.0))
    return np.asarray(np.log((floor + ceiling * progress) / (1.0 + progress)))


def _m4_starts(x: Floats, y: Floats) -> list[Floats]:
    """For each guess of floor and ceiling the rest is a straight line."""
    loss, starts = np.exp(y), []
    for floor in loss.min() * np.array([0.0, 0.5, 0.9]):
        for ceiling in loss.max() * np.array([1.05, 1.5, 5.0]):
            level, k = line(x, np.log((loss - floor) / (ceiling - loss)))
            starts.append(np.array([level, np.clip(k, 1e-6, LARGEST_EXPONENT - 1e-6), floor, ceiling]))
    return starts


def _m4_bounds(_x: Floats, y: Floats) -> tuple[Floats, Floats]:
    low, high = np.exp(y.min(axis=-1)), np.exp(y.max(axis=-1))
    return _box(y, [(-np.inf, np.inf), (0.0, LARGEST_EXPONENT), (0.0, low), (high, 100.0 * high)])


_ALL = (
    Form("power", "ln L = c - k ln D", ("level", "k"), _power, _power_starts, _unbounded),
    Form(
        "power_offset", "L = e + a D^-k", ("level", "k", "floor"),
        _power_offset, _power_offset_starts, _power_offset_bounds, runaway=("k", "floor"),
    ),
    Form("broken", "two power laws, k before the bend", ("level", "k", "k_after", "bend"),
         _broken, _broken_starts, _broken_bounds),
    Form("m4", "(L - e) / (e0 - L) = a D^-k", ("level", "k", "floor", "ceiling"),
         _m4, _m4_starts, _m4_bounds, runaway=("k", "floor", "ceiling")),
)  # fmt: skip

FORMS: dict[str, Form] = {form.name: form for form in _ALL}
"""By name, fewest parameters first.

Source: `power` and its bend, arXiv 2312.04567 eq. 1-2 and Fig. 1; `m4`, Alabdulmohsin, Neyshabur, Zhai, "Revisiting
Neural Scaling Laws in Language and Vision" (NeurIPS 2022), with its second exponent fixed at 1: curves of four to eight
sizes cannot tell five parameters apart.
"""
