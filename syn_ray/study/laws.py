"""What is fitted to a study's runs, and the tables of it: laws, their differences, forms other than the line."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from syn_ray.core.artifact import read_artifact
from syn_ray.core.errors import FitError
from syn_ray.evaluate.evaluation import Evaluation
from syn_ray.fit import (
    BootstrappedLaw,
    FormChoice,
    Law,
    bootstrap_law,
    choose_form,
    compare,
    compare_forecast,
    fit_law,
)
from syn_ray.report.inputs import COMPARISON_COLUMNS, DOWNSTREAM, FIT_COLUMNS, FORECAST_COLUMNS, POWER
from syn_ray.study.config import LEAST_SIZES
from syn_ray.study.plan import StudyPlan

Laws = Mapping[tuple[str, str], BootstrappedLaw]
"""By curve and evaluation set."""
Choices = Mapping[tuple[str, str], FormChoice]


def fit_laws(plan: StudyPlan) -> Laws:
    """The power law of each curve on each evaluation set, where enough sizes are finished.

    With downstream sets also one of the mean of their losses: how the paper pools them is not known.
    """
    pools = {name: [name] for name in plan.evaluation_sources}
    if plan.config.downstream:
        pools[DOWNSTREAM] = list(plan.config.downstream)
    laws = {}
    for curve in plan.curves:
        done = [run for run in plan.runs(curve) if read_artifact(run.directory, run.fingerprint) is not None]
        judged = {run.name: {e.eval_set: e for e in plan.evaluations(run) if _is_judged(e)} for run in done}
        for eval_set, pool in pools.items():
            runs = [run for run in done if set(pool) <= judged[run.name].keys()]
            low, high = plan.config.fit_window
            if len({run.dataset_size for run in runs if low <= run.dataset_size <= high}) < LEAST_SIZES:
                continue
            losses = [[judged[run.name][name].predictions()["loss"].to_numpy() for name in pool] for run in runs]
            laws[curve.name, eval_set] = bootstrap_law(
                [run.dataset_size for run in runs],
                np.stack([np.concatenate(parts) for parts in losses]),
                seeds=[run.seed for run in runs],
                window=plan.config.fit_window,
                reference_size=plan.config.reference_size,
                sets=[len(part) for part in losses[0]],
            )
    return laws


def _is_judged(evaluation: Evaluation) -> bool:
    """Whether there is a loss for each image."""
    return evaluation.images_judged and read_artifact(evaluation.directory, evaluation.fingerprint) is not None


def choose_forms(plan: StudyPlan, results: pd.DataFrame, laws: Laws) -> Choices:
    """The form that best foretells the largest size of each curve that has a law and a size more than it needs."""
    losses = results[results["metric"] == "loss"]
    choices = {}
    for curve, eval_set in laws:
        own = losses[(losses["curve"] == curve) & (losses["eval_set"] == eval_set)]
        try:
            choices[curve, eval_set] = choose_form(
                own["dataset_size"].to_numpy(dtype=float),
                own["value"].to_numpy(dtype=float),
                window=plan.config.fit_window,
                reference_size=plan.config.reference_size,
            )
        except FitError:  # too few sizes to hold one out
            continue
    return choices


def fits_table(plan: StudyPlan, laws: Laws, choices: Choices) -> pd.DataFrame:
    """The laws as `fits.parquet` holds them: each line, and where it bends, the form that foretells best beside it.

    It bends where its forecast of the largest size is resolved from what was measured. Without this condition a form of
    four parameters would be taken for the scatter of a straight line.
    """
    rows = []
    for place, law in laws.items():
        low, high = plan.config.fit_window
        means = {size: loss for size, loss in law.losses.items() if low <= size <= high}
        measured = law.losses.get(float(plan.config.reference_size))
        rows.append(_row(place, POWER, law, fit_law(list(means), list(means.values())).r2, measured))
        choice = choices.get(place)
        if choice is not None and choice.form != POWER and compare_forecast(law).resolved:
            rows.append(_row(place, choice.form, choice.law, _r2(choice.law, means), measured))
    numbers = FIT_COLUMNS[FIT_COLUMNS.index("scaling_ability") :]
    return pd.DataFrame(rows, columns=list(FIT_COLUMNS)).astype(dict.fromkeys(numbers, "float64"))


def _row(
    place: tuple[str, str], form: str, law: BootstrappedLaw | Law, r2: float, measured: float | None
) -> dict[str, Any]:
    return {
        "curve": place[0],
        "eval_set": place[1],
        "form": form,
        "scaling_ability": law.scaling_ability,
        "low": law.low,
        "high": law.high,
        "performance_fitted": law.performance_fitted,
        "performance_measured": None if measured is None else -float(np.log(measured)),
        "r2": r2,
        "window_min": law.window_min,
        "window_max": law.window_max,
    }


def _r2(law: Law, means: Mapping[float, float]) -> float:
    """Of the means over seeds, as for the line."""
    measured = np.log(list(means.values()))
    predicted = np.log([law.predict(size, of="line")[0] for size in means])
    return float(1 - ((measured - predicted) ** 2).sum() / ((measured - measured.mean()) ** 2).sum())


def comparisons_table(laws: Laws) -> pd.DataFrame:
    """Each two curves on each evaluation set: what they differ by in k, and in ln loss at each size of both."""
    rows: list[tuple[Any, ...]] = []
    for (a, eval_set), (b, other_set) in itertools.combinations(laws, 2):
        one, two = laws[a, eval_set], laws[b, other_set]
        if eval_set != other_set or one.pairing != two.pairing:
            continue
        sizes = [size for size in sorted(one.losses) if size in two.losses]
        found = [compare(one, two), *(compare(one, two, "loss", size) for size in sizes)]
        rows += [
            (eval_set, pair.quantity, size, a, b, pair.difference, pair.low, pair.high)
            for size, pair in zip([None, *sizes], found, strict=True)
        ]
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS)).astype({"dataset_size": "float64"})


def forecasts_table(laws: Laws, choices: Choices) -> pd.DataFrame:
    """What each form foretold of the largest size of each curve, and which was chosen by it."""
    rows: list[tuple[Any, ...]] = []
    for place, choice in choices.items():
        for form, held in choice.holdouts.items():
            low, high = (float(np.log(end / held.measured)) for end in (held.low, held.high))
            error = held.error
            if form == POWER:  # known from replicates, which hold the test images and the seeds
                line = compare_forecast(laws[place])
                error, low, high = line.difference, line.low, line.high
            rows.append((*place, form, held.dataset_size, error, low, high, form == choice.form))
    return pd.DataFrame(rows, columns=list(FORECAST_COLUMNS))
