"""The points a law is fitted to: checked once, so that the laws can trust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from syn_ray.core.errors import FitError, UserError
from syn_ray.fit.forms import Floats


@dataclass(frozen=True)
class Points:
    """Runs inside a window, ordered by size: `ln loss` over `x = ln D - centre`."""

    sizes: Floats
    y: Floats
    centre: float

    @property
    def x(self) -> Floats:
        """Centred ln D of each run."""
        return np.asarray(np.log(self.sizes) - self.centre)

    @property
    def distinct(self) -> Floats:
        """The distinct dataset sizes, ascending."""
        return np.unique(self.sizes)


def check_sizes(dataset_sizes: ArrayLike) -> Floats:
    """Dataset sizes as floats.

    Raises:
        UserError: One is not a positive finite number.
    """
    sizes = np.atleast_1d(np.asarray(dataset_sizes, dtype=np.float64))
    if sizes.ndim != 1:
        raise UserError(f"dataset_sizes has shape {sizes.shape}; give one size for each run")
    for position, size in enumerate(sizes):
        if not (np.isfinite(size) and size > 0):
            raise UserError(f"dataset_sizes[{position}] is {size:g}; a dataset size is a positive number of images")
    return sizes


def check_losses(sizes: Floats, losses: ArrayLike) -> Floats:
    """Losses as floats, one for each size.

    Raises:
        UserError: Their number differs, or one is not a positive finite number.
    """
    values = np.atleast_1d(np.asarray(losses, dtype=np.float64))
    if values.shape != sizes.shape:
        raise UserError(f"{len(sizes)} dataset sizes but {len(values)} losses; give one loss for each run")
    for size, loss in zip(sizes, values, strict=True):
        if not (np.isfinite(loss) and loss > 0):
            raise UserError(
                f"the loss at dataset size {size:g} is {loss:g}; a law needs positive losses in nats, "
                "and a missing one is never filled in"
            )
    return values


def inside(sizes: Floats, window: Sequence[float] | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Mask of the sizes inside the window, both ends included.

    Raises:
        UserError: The window is not two ascending positive sizes.
    """
    if window is None:
        return np.ones(sizes.shape, dtype=np.bool_)
    if len(window) != 2 or not 0 < window[0] < window[1]:
        raise UserError(f"window is {tuple(window)}; give the smallest and the largest dataset size of the fit")
    return (sizes >= window[0]) & (sizes <= window[1])


def select_points(
    dataset_sizes: ArrayLike, losses: ArrayLike, window: Sequence[float] | None, needed: int, what: str
) -> Points:
    """The runs inside the window, ordered by size.

    Args:
        dataset_sizes: D of each run; repeated where there are seeds.
        losses: Mean cross-entropy of each run, nats.
        window: Smallest and largest D of the fit, both included; everything when None.
        needed: Distinct sizes that must be there.
        what: Named in the error, "the law 'power'".

    Raises:
        FitError: Too few distinct sizes inside the window.
    """
    sizes = check_sizes(dataset_sizes)
    values = check_losses(sizes, losses)
    require_distinct(sizes[inside(sizes, window)], window, needed, what)
    chosen = np.flatnonzero(inside(sizes, window))
    order = chosen[np.lexsort((values[chosen], sizes[chosen]))]
    return Points(sizes[order], np.log(values[order]), float(np.log(sizes[order]).mean()))


def require_distinct(sizes: Floats, window: Sequence[float] | None, needed: int, what: str) -> None:
    """Raise FitError unless there are `needed` distinct sizes."""
    distinct = np.unique(sizes)
    if len(distinct) < needed:
        where = "" if window is None else f" inside the window {window[0]:g} to {window[1]:g}"
        found = ", ".join(f"{size:g}" for size in distinct) or "none"
        raise FitError(
            f"{what} needs {needed} distinct dataset sizes{where}, found {len(distinct)} ({found}); "
            "train more sizes or choose a form with fewer parameters"
        )
