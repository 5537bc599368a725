"""Checks that the tables hold everything a report shows; called before anything is drawn.

A missing number is an error here, so nothing further down fills one in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from syn_ray.report.inputs import (
    COMPARISON_COLUMNS,
    FIT_COLUMNS,
    FORECAST_COLUMNS,
    IMAGE_METRICS,
    IMAGES,
    INTERVAL_COLUMNS,
    POWER,
    RESULT_COLUMNS,
    TRAINING_METRICS,
    ReportError,
    ReportInput,
    list_eval_sets,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_input(report: ReportInput) -> None:
    """Checks that the tables hold everything the report shows.

    Raises:
        ReportError: Names what is missing, where, and what to do.
    """
    _check_columns(report.results, RESULT_COLUMNS, "results")
    if report.results.empty:
        raise ReportError("results: the table is empty. Run the stages before `report` first.")
    _check_columns(report.fits, FIT_COLUMNS, "fits")
    _check_values(report.results)
    _check_training(report.results)
    _check_image_scores(report.results)
    _check_fits(report)
    if report.comparisons is not None:
        _check_columns(report.comparisons, COMPARISON_COLUMNS, "comparisons")
    if report.forecasts is not None:
        _check_columns(report.forecasts, FORECAST_COLUMNS, "forecasts")
    if report.intervals is not None:
        _check_columns(report.intervals, INTERVAL_COLUMNS, "intervals")
        if not report.point_interval_method:
            raise ReportError("intervals: point_interval_method is empty. Say in words how these intervals were made.")
    curves, eval_sets = set(report.results["curve"]), list_eval_sets(report.results)
    for name in (samples.curve for samples in report.samples):
        if name not in curves:
            raise ReportError(
                f"samples: curve {name!r} has no results. Curves with results: {', '.join(sorted(curves))}."
            )
    for name in report.eval_sets:
        if name not in eval_sets:
            raise ReportError(
                f"eval_sets: {name!r} has no results. Evaluation sets with results: {', '.join(eval_sets)}."
            )


def _check_columns(frame: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ReportError(f"{name}: column {', '.join(missing)} is missing. The table must have: {' '.join(columns)}.")


def _check_values(results: pd.DataFrame) -> None:
    wrong = results[~np.isfinite(results["value"].astype(float))]
    if len(wrong):
        raise ReportError(
            f"results: {_place(wrong.iloc[0])} is {wrong.iloc[0]['value']}, not a finite number. Rerun it."
        )
    keys = ["curve", "eval_set", "metric", "dataset_size", "seed"]
    twice = results[results.duplicated(keys)]
    if len(twice):
        raise ReportError(f"results: {_place(twice.iloc[0])} stands there twice. Remove the stale run from the table.")
    loss = results[(results["metric"] == "loss") & (results["value"].astype(float) <= 0)]
    if len(loss):
        raise ReportError(
            f"results: {_place(loss.iloc[0])} is {loss.iloc[0]['value']}; a mean cross-entropy is above 0."
        )


def _check_training(results: pd.DataFrame) -> None:
    training = results[results["eval_set"] != IMAGES]
    eval_sets = list_eval_sets(results)
    if not eval_sets:
        raise ReportError("results: there are only image scores. Run `syn-ray train` and `syn-ray evaluate` first.")
    runs = training[["curve", "dataset_size", "seed"]].drop_duplicates()
    have = set(
        zip(
            training["curve"],
            training["dataset_size"],
            training["seed"].fillna(-1),
            training["eval_set"],
            training["metric"],
            strict=True,
        )
    )
    for curve, size, seed in runs.itertuples(index=False):
        for eval_set in eval_sets:
            for metric in TRAINING_METRICS:
                if (curve, size, -1 if pd.isna(seed) else seed, eval_set, metric) not in have:
                    raise ReportError(
                        f"results: no {metric} on {eval_set} for curve {curve!r} at dataset_size {size}, "
                        f"{_seed(seed)}. Run `syn-ray evaluate` for it; the report fills nothing in."
                    )
    for curve in set(results["curve"]) - set(training["curve"]):
        raise ReportError(
            f"results: curve {curve!r} has image scores and no training result. Run `syn-ray train` for it."
        )


def _check_image_scores(results: pd.DataFrame) -> None:
    """Curves may have none; a curve has them all, once each."""
    scores = results[results["eval_set"] == IMAGES]
    for curve in dict.fromkeys(scores["curve"]):
        found = scores.loc[scores["curve"] == curve, "metric"].tolist()
        for metric in IMAGE_METRICS:
            if found.count(metric) != 1:
                raise ReportError(
                    f"results: curve {curve!r} has {found.count(metric)} values of {metric} on 'images', not one. "
                    "Run `syn-ray score` for it; the report fills nothing in."
                )


def _check_fits(report: ReportInput) -> None:
    results, power = report.results, report.fits[report.fits["form"] == POWER]
    low, high = report.fit_window or (0, np.inf)
    for curve in results["curve"].unique():
        training = results[(results["curve"] == curve) & (results["eval_set"] != IMAGES)]
        sizes = training["dataset_size"].astype(float)
        if sizes[sizes.between(low, high)].nunique() < 3:
            continue  # one size has no slope
        for eval_set in list_eval_sets(results):
            row = power[(power["curve"] == curve) & (power["eval_set"] == eval_set)]
            if len(row) != 1:
                raise ReportError(
                    f"fits: {len(row)} power laws for curve {curve!r} on {eval_set}, not one. Run `syn-ray fit`."
                )
            for column in ("scaling_ability", "performance_fitted", "window_min", "window_max"):
                if not np.isfinite(float(row.iloc[0][column])):
                    raise ReportError(
                        f"fits: {column} of curve {curve!r} on {eval_set} is {row.iloc[0][column]}. Run `syn-ray fit`."
                    )


def _place(row: pd.Series) -> str:
    where = f"{row['metric']} of curve {row['curve']!r} on {row['eval_set']}"
    return f"{where}, dataset_size {row['dataset_size']}, {_seed(row['seed'])},"


def _seed(seed: float | None) -> str:
    return "no seed" if pd.isna(seed) else f"seed {seed:g}"
