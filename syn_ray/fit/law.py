"""Scaling laws of the loss over the dataset size: fit, interval, prediction.

`fit_law` takes one number per run. Where the losses of every test image are at hand, `intervals.bootstrap_law` gives
the study's own interval, which also knows how far the test images decide the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from syn_ray.core.errors import UserError, nearest
from syn_ray.fit.forms import FORMS, Floats, Form
from syn_ray.fit.points import Points, select_points
from syn_ray.fit.solve import refit, solve

REPLICATES = 1000
"""Refits behind an interval of a curved form; the ends of a 95% interval move by some 3% of its width."""


@dataclass(frozen=True)
class Law:
    """A law fitted to the runs of one curve on one evaluation set.

    Args:
        form: Name in `FORMS`.
        scaling_ability: k, minus the slope of ln loss over ln D (of what is above the floor, for the saturating forms;
            before the bend, for `broken`).
        low: Lower end of the interval of k.
        high: Upper end of it.
        performance_fitted: -ln of the law's loss at `reference_size`.
        performance_low: Lower end of its interval.
        performance_high: Upper end of it.
        r2: Part of the variance of ln loss that the law explains; nan where the loss does not vary at all.
        reference_size: D at which the performance is stated.
        window_min: Smallest D used.
        window_max: Largest D used.
        confidence: Of all intervals.
        residual_sd: Standard deviation of ln loss around the law.
        degrees_of_freedom: Runs used, less parameters.
        parameters: By name. Of x = ln D - mean(ln D); floors and ceilings are losses in nats.
    """

    form: str
    scaling_ability: float
    low: float
    high: float
    performance_fitted: float
    performance_low: float
    performance_high: float
    r2: float
    reference_size: float
    window_min: float
    window_max: float
    confidence: float
    residual_sd: float
    degrees_of_freedom: int
    parameters: Mapping[str, float]
    _points: Points = field(repr=False, compare=False)
    _theta: Floats = field(repr=False, compare=False)
    _draws: Floats = field(repr=False, compare=False)
    """[replicates, parameters]; empty for the straight line, whose interval is exact."""

    def predict(self, dataset_size: float, of: Literal["run", "line"] = "run") -> tuple[float, float, float]:
        """Loss at a dataset size with its interval, in nats.

        Args:
            dataset_size: D, inside the window or beyond it.
            of: `run`: where one new run would fall, the thing to compare with a later measurement. `line`: where the
                law itself lies, the band of a figure.

        Returns:
            `(value, low, high)`. The interval knows the scatter of the runs, not whether the form holds beyond the
            window: compare with `holdout_largest`.
        """
        if not (np.isfinite(dataset_size) and dataset_size > 0):
            raise UserError(f"dataset_size is {dataset_size:g}; a dataset size is a positive number of images")
        x = np.array([np.log(dataset_size) - self._points.centre])
        y = float(FORMS[self.form].predict(self._theta, x)[0])
        low, high = self._interval_of_y(x, y, noise=of == "run")
        return float(np.exp(y)), float(np.exp(low)), float(np.exp(high))

    def _interval_of_k(self) -> tuple[float, float]:
        if len(self._draws):
            low, high = np.quantile(self._draws[:, FORMS[self.form].k_index], _tails(self.confidence))
            return float(low), float(high)
        t = float(stdtrit(self.degrees_of_freedom, _tails(self.confidence)[1]))
        half = t * self.residual_sd / float(np.sqrt(self._points.x @ self._points.x))
        return self.scaling_ability - half, self.scaling_ability + half

    def _interval_of_y(self, x: Floats, y: float, noise: bool) -> tuple[float, float]:
        """Ends of ln loss at one x: of the law, or with `noise` of a new run."""
        if len(self._draws):
            rng = np.random.default_rng(1)
            lines = FORMS[self.form].predict(self._draws, x)[:, 0]
            scatter = rng.standard_t(self.degrees_of_freedom, len(lines)) * self.residual_sd * noise
            low, high = np.quantile(lines + scatter, _tails(self.confidence))
            return float(low), float(high)
        all_x = self._points.x
        leverage = 1 / len(all_x) + x[0] ** 2 / (all_x @ all_x) + noise
        t = float(stdtrit(self.degrees_of_freedom, _tails(self.confidence)[1]))
        half = t * self.residual_sd * float(np.sqrt(leverage))
        return y - half, y + half


def fit_law(
    dataset_sizes: ArrayLike,
    losses: ArrayLike,
    form: str = "power",
    window: Sequence[float] | None = None,
    reference_size: float | None = None,
    confidence: float = 0.95,
) -> Law:
    """The law of a curve, with intervals from the scatter of its runs.

    `power` is the unweighted least-squares line of ln loss on ln D, its interval Student's t on the residuals (runs - 2
    degrees of freedom). The other forms minimise the same squares from a fixed grid of starting points; their intervals
    are a residual bootstrap widened to Student's t.

    Args:
        dataset_sizes: D of each run; repeated where there are several seeds.
        losses: Mean cross-entropy of each run on real images, nats.
        form: `power`, `power_offset`, `broken` or `m4`.
        window: Smallest and largest D used, both included; all runs when None.
        reference_size: D at which the performance is stated (1.3 million in the paper); the largest D used when None.
        confidence: Of the intervals.

    Raises:
        UserError: The input cannot be points of a law, or the form has no such name.
        FitError: Too few distinct sizes, or the search does not converge on parameters that the points determine.

    Source: arXiv 2312.04567, section 4, eq. 1-2.
    """
    if form not in FORMS:
        raise UserError(f"form is '{form}', which is no law{nearest(form, FORMS)}")
    if not 0 < confidence < 1:
        raise UserError(f"confidence is {confidence:g}; give a fraction between 0 and 1, such as 0.95")
    shape = FORMS[form]
    points = select_points(dataset_sizes, losses, window, shape.sizes_needed, f"the law '{form}'")
    theta = solve(shape, points)
    reference = float(points.sizes[-1]) if reference_size is None else float(reference_size)
    return _with_intervals(shape, points, theta, reference, confidence)


def _with_intervals(form: Form, points: Points, theta: Floats, reference: float, confidence: float) -> Law:
    """A Law: first without ends of intervals, which it needs itself to work them out."""
    residuals = points.y - form.predict(theta, points.x)
    spread = points.y - points.y.mean()
    dof = len(points.y) - len(theta)
    constant = spread @ spread <= 1e-24  # rounding of equal losses
    draws = np.empty((0, len(theta))) if form.name == "power" else _bootstrap(form, points, theta, residuals, dof)
    bare = Law(
        form=form.name,
        scaling_ability=float(theta[form.k_index]),
        low=np.nan,
        high=np.nan,
        performance_fitted=np.nan,
        performance_low=np.nan,
        performance_high=np.nan,
        r2=np.nan if constant else float(1 - residuals @ residuals / (spread @ spread)),
        reference_size=reference,
        window_min=float(points.sizes[0]),
        window_max=float(points.sizes[-1]),
        confidence=confidence,
        residual_sd=float(np.sqrt(residuals @ residuals / dof)),
        degrees_of_freedom=dof,
        parameters=dict(zip(form.parameters, map(float, theta), strict=True)),
        _points=points,
        _theta=theta,
        _draws=draws,
    )
    value, best, worst = (-float(np.log(loss)) for loss in bare.predict(reference, of="line"))
    low, high = bare._interval_of_k()  # noqa: SLF001 - its own maker
    return replace(bare, low=low, high=high, performance_fitted=value, performance_low=worst, performance_high=best)


def _bootstrap(form: Form, points: Points, theta: Floats, residuals: Floats, dof: int) -> Floats:
    """Parameters refitted to the law plus resampled residuals.

    Residuals are smaller than the errors they stand for: by sqrt(dof / runs), and by how uncertain their own size is
    with so few of them. The second is one chi-square draw for each replicate, which turns a normal into Student's t.
    A refit may end on a bound: that is where the interval ends.
    """
    rng = np.random.default_rng(0)
    inflated = (residuals - residuals.mean()) * np.sqrt(len(residuals) / dof)
    noise = rng.choice(inflated, (REPLICATES, len(inflated))) * np.sqrt(dof / rng.chisquare(dof, (REPLICATES, 1)))
    curves = form.predict(theta, points.x) + np.clip(noise, -5.0, 5.0)  # beyond a factor of 150 a loss is no loss
    return refit(form, points.x, curves, theta)


def _tails(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2
