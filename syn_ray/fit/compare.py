"""Differences replicate by replicate: of two curves on the same test images, of a line's forecast and what came.

What the images do to both sides cancels out of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from syn_ray.core.errors import FitError, UserError
from syn_ray.fit.forms import Floats
from syn_ray.fit.intervals import BootstrappedLaw, Quantity, ends
from syn_ray.fit.resample import lines_through


@dataclass(frozen=True)
class Comparison:
    """The difference of two curves, `a` less `b`.

    Args:
        quantity: What was compared. Losses are compared as ln loss: -0.05 says that a's loss is 5% lower.
        difference: Between the two measured values.
        low: Lower end of its interval.
        high: Upper end of it.
        resolved: Whether the interval leaves out zero.
    """

    quantity: Quantity
    difference: float
    low: float
    high: float
    resolved: bool


def compare(
    a: BootstrappedLaw, b: BootstrappedLaw, quantity: Quantity = "scaling_ability", dataset_size: float | None = None
) -> Comparison:
    """The difference of two curves, replicate by replicate.

    Args:
        a: One curve.
        b: Another, on the same test images in the same order.
        quantity: `scaling_ability`, `performance_fitted`, or `loss` at one trained size.
        dataset_size: Of `loss`.

    Raises:
        UserError: The replicates of the two do not belong together.
    """
    if a.pairing != b.pairing:
        raise UserError(
            f"these curves cannot be compared in pairs: (images, rng_seed, replicates, confidence) are {a.pairing} and "
            f"{b.pairing}; bootstrap both on the same test images with the same settings"
        )
    if quantity == "performance_fitted" and a.reference_size != b.reference_size:
        raise UserError(
            f"performance is stated at {a.reference_size:g} and at {b.reference_size:g}; give both one reference_size"
        )
    drawn = a.replicates(quantity, dataset_size) - b.replicates(quantity, dataset_size)
    low, high = ends(drawn, a.confidence)
    difference = _value(a, quantity, dataset_size) - _value(b, quantity, dataset_size)
    return Comparison(quantity, difference, low, high, resolved=not low <= 0 <= high)


def compare_forecast(law: BootstrappedLaw) -> Comparison:
    """What the line through all sizes but the largest says of that one, less what was measured there, in ln loss.

    Each size counts once, whatever its seeds. Where sizes have one seed, the noise of training is taken from the
    scatter around the line, which a bend is part of: then a bend is resolved only where it is plain.

    Args:
        law: Of a curve with four sizes or more inside its window.

    Raises:
        FitError: There are fewer.
    """
    sizes = [size for size in sorted(law.losses) if law.window_min <= size <= law.window_max]
    if len(sizes) < 4:
        raise FitError(f"a line needs 3 dataset sizes beside the one it is to foretell, found {len(sizes) - 1}")
    x = np.log(sizes)
    measured = np.log([law.losses[size] for size in sizes])[None]
    drawn = np.stack([law.replicates("loss", size) for size in sizes], axis=1)

    def errors(y: Floats) -> Floats:
        k, level = lines_through(x[:-1], y[:, :-1])
        return np.asarray(level - k * x[-1] - y[:, -1])

    low, high = ends(errors(drawn), law.confidence)
    return Comparison("loss", float(errors(measured)[0]), low, high, resolved=not low <= 0 <= high)


def _value(law: BootstrappedLaw, quantity: Quantity, dataset_size: float | None) -> float:
    if quantity == "loss":
        assert dataset_size is not None  # `replicates` has refused it already
        return float(np.log(law.losses[dataset_size]))
    return law.scaling_ability if quantity == "scaling_ability" else law.performance_fitted
