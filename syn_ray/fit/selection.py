"""Which form holds: fit without the largest dataset size, predict it, compare.

A form is chosen by what it foretells, not by how closely it bends to points it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from syn_ray.core.errors import FitError
from syn_ray.fit.forms import FORMS
from syn_ray.fit.law import Law, fit_law
from syn_ray.fit.points import check_losses, check_sizes, inside


@dataclass(frozen=True)
class Holdout:
    """What a law said of the largest dataset size before it saw it.

    Args:
        form: Name of the law.
        dataset_size: The size held out.
        predicted: Loss that the law expects there, nats.
        low: Lower end of the interval for one run there.
        high: Upper end of it.
        measured: Geometric mean of the runs there, nats: the mean that least squares of ln loss would draw.
        error: ln(predicted / measured): +0.02 says 2% too high.
        covered: Whether the interval holds what was measured.
    """

    form: str
    dataset_size: float
    predicted: float
    low: float
    high: float
    measured: float
    error: float
    covered: bool


@dataclass(frozen=True)
class FormChoice:
    """The form that foretold the largest size best.

    Args:
        form: Its name.
        law: Fitted to all the points.
        holdouts: What each form foretold.
        refused: Forms that could not be fitted, and why.
    """

    form: str
    law: Law
    holdouts: Mapping[str, Holdout]
    refused: Mapping[str, str]


def holdout_largest(
    dataset_sizes: ArrayLike,
    losses: ArrayLike,
    form: str = "power",
    window: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> Holdout:
    """The extrapolation error of a form: every run but those at the largest D is fitted, and that one predicted.

    Args:
        dataset_sizes: D of each run.
        losses: Mean cross-entropy of each run, nats.
        form: Name of the law.
        window: Smallest and largest D looked at, both included; the largest inside it is held out.
        confidence: Of the prediction.

    Raises:
        FitError: Without the largest size too few are left, or the form does not converge on them.
    """
    sizes = check_sizes(dataset_sizes)
    values = check_losses(sizes, losses)
    mask = inside(sizes, window)
    if not mask.any():
        raise FitError(f"no dataset size lies inside the window {tuple(window or ())}; nothing can be held out")
    largest = sizes[mask].max()
    law = fit_law(sizes[mask & (sizes < largest)], values[mask & (sizes < largest)], form, confidence=confidence)
    predicted, low, high = law.predict(float(largest))
    measured = float(np.exp(np.log(values[sizes == largest]).mean()))
    error = float(np.log(predicted / measured))
    return Holdout(form, float(largest), predicted, low, high, measured, error, low <= measured <= high)


def choose_form(
    dataset_sizes: ArrayLike,
    losses: ArrayLike,
    forms: Sequence[str] = tuple(FORMS),
    window: Sequence[float] | None = None,
    reference_size: float | None = None,
    confidence: float = 0.95,
    tolerance: float = 0.005,
) -> FormChoice:
    """The form with the smallest held-out error, fitted to all points.

    Args:
        dataset_sizes: D of each run.
        losses: Mean cross-entropy of each run, nats.
        forms: Names to choose among.
        window: Smallest and largest D looked at, both included.
        reference_size: As in `fit_law`.
        confidence: As in `fit_law`.
        tolerance: Errors this close (in ln loss) count as equal, and fewer parameters win. Half a percent is what the
            mean of a few seeds can tell apart.

    Raises:
        FitError: Not one form can be fitted; the message has each one's reason.
    """
    holdouts: dict[str, Holdout] = {}
    laws: dict[str, Law] = {}
    refused: dict[str, str] = {}
    for form in forms:
        try:
            holdouts[form] = holdout_largest(dataset_sizes, losses, form, window, confidence)
            laws[form] = fit_law(dataset_sizes, losses, form, window, reference_size, confidence)
        except FitError as error:
            refused[form] = str(error)
    if not laws:
        raise FitError("no form can be chosen: " + "; ".join(refused.values()))
    best = min(abs(holdouts[form].error) for form in laws)
    equal = [form for form in laws if abs(holdouts[form].error) <= best + tolerance]
    chosen = min(equal, key=lambda form: len(FORMS[form].parameters))
    return FormChoice(chosen, laws[chosen], {form: holdouts[form] for form in laws}, refused)
