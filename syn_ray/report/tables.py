"""From tidy results to points with intervals, to the tables a reader sees, and to Markdown.

Second in the flow of this folder: `findings` and `figures` read `point_table`, the page shows the display tables.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from syn_ray.report.inputs import CURVE_COLUMNS, IMAGE_METRICS, IMAGES, POWER, list_curves, list_eval_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

POINT_KEYS = ["curve", "eval_set", "metric", "dataset_size"]
COVERAGE = 0.95
NOTHING = "–"


def point_table(results: pd.DataFrame, intervals: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per curve, evaluation set, metric and dataset size: `value` (mean over seeds), `low`, `high`, `seeds`.

    The interval is the given one; where none is given, Student's t over the seeds; with one seed it is null.
    """
    numbers = results.assign(value=results["value"].astype(float))
    grouped = numbers.groupby(POINT_KEYS, sort=False)["value"]
    points = grouped.agg(value="mean", deviation="std", seeds="size").reset_index()
    count = points["seeds"].to_numpy(dtype=float)
    quantile = stdtrit(np.maximum(count - 1, 1), 0.5 + COVERAGE / 2)
    half = quantile * points["deviation"].astype(float) / np.sqrt(count)
    points["low"], points["high"] = points["value"] - half, points["value"] + half
    if intervals is not None:
        given = points[POINT_KEYS].merge(intervals, on=POINT_KEYS, how="left", validate="one_to_one")
        points["low"] = given["low"].astype(float).fillna(points["low"])
        points["high"] = given["high"].astype(float).fillna(points["high"])
    return points.drop(columns="deviation")


def sizes_of(points: pd.DataFrame) -> dict[str, set[int]]:
    """The dataset sizes at which each curve was trained."""
    training = points[points["eval_set"] != IMAGES]
    return {str(name): set(map(int, group["dataset_size"])) for name, group in training.groupby("curve")}


def shared_size(sizes: Sequence[set[int]], reference_size: int | None = None, least: int = 2) -> int | None:
    """The dataset size at which things with these sizes are compared.

    The largest that all have; where they share none, the reference size, or else the largest of those that most have.

    Args:
        sizes: Of each curve, or whatever is compared.
        reference_size: Where a study reads off performance.
        least: How many must have it.

    Returns:
        None where no `least` of them share one.
    """
    counts = Counter(size for own in sizes for size in own)
    fitting = {size: count for size, count in counts.items() if count >= least}
    if not fitting:
        return None
    most = max(fitting.values())
    if most < len(sizes) and reference_size in fitting:
        return reference_size
    return max(size for size, count in fitting.items() if count == most)


def headline_size(points: pd.DataFrame, reference_size: int | None = None) -> tuple[int | None, list[str]]:
    """The size at which all curves are compared as far as they were trained there, and the names of those."""
    sizes = sizes_of(points)
    size = shared_size(list(sizes.values()), reference_size, least=min(2, len(sizes)))
    return size, [name for name, own in sizes.items() if size in own]


def summary_table(
    results: pd.DataFrame, fits: pd.DataFrame, points: pd.DataFrame, eval_set: str, reference_size: int | None = None
) -> pd.DataFrame:
    """One row per curve: loss and top-1 at the size of the headline on one evaluation set, k, and the image scores."""
    size, _ = headline_size(points, reference_size)
    rows = []
    for curve in list_curves(results)["curve"]:
        row: dict[str, str] = {"curve": curve}
        if size is not None:
            for metric, title in (("loss", "loss"), ("top1", "top-1")):
                row[f"{title} on {eval_set} at D = {size:,}"] = _cell(points, curve, eval_set, metric, size)
        row[f"scaling ability k on {eval_set}"] = _fit_cell(fits, curve, eval_set)
        if (points["eval_set"] == IMAGES).any():
            for metric in IMAGE_METRICS:
                row[metric] = _cell(points, curve, IMAGES, metric, None)
        rows.append(row)
    return pd.DataFrame(rows)


def curves_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row per curve with everything that describes it."""
    sizes = results[results["eval_set"] != IMAGES].groupby("curve")["dataset_size"].unique()
    seeds = results.groupby("curve")["seed"].nunique()
    table = list_curves(results)[list(CURVE_COLUMNS)]
    return table.assign(
        dataset_sizes=[", ".join(f"{size:,}" for size in sorted(sizes[name])) for name in table["curve"]],
        seeds=[int(seeds[name]) for name in table["curve"]],
    )


def results_table(results: pd.DataFrame) -> pd.DataFrame:
    """Every measured number: one row per curve, evaluation set, dataset size and seed, one column per metric."""
    shared = ["samples_seen", "unique_images", "epochs", "train_steps", "seconds", "run"]
    keys = ["curve", "eval_set", "dataset_size", "seed"]
    keyed = results.assign(seed=results["seed"].astype("Float64").fillna(-1.0))  # groupby and pivot drop null keys
    values = keyed.pivot_table(index=keys, columns="metric", values="value", aggfunc="first", sort=False)
    budget = keyed.groupby(keys, sort=False)[shared].first()
    wide = values.join(budget).reset_index()
    wide["seed"] = wide["seed"].astype(float).replace(-1.0, np.nan)
    order_curve = {name: place for place, name in enumerate(list_curves(results)["curve"])}
    order_set = {name: place for place, name in enumerate([*list_eval_sets(results), IMAGES])}
    place = wide.assign(c=wide["curve"].map(order_curve), e=wide["eval_set"].map(order_set))
    order = place.sort_values(["c", "e", "dataset_size", "seed"], kind="stable").index
    first = ["loss", "top1", "top5"]
    metrics = [*(m for m in first if m in values.columns), *(m for m in values.columns if m not in first)]
    return wide.loc[order, [*keys, *metrics, *shared]].reset_index(drop=True)


def fits_table(fits: pd.DataFrame, results: pd.DataFrame, eval_sets: Sequence[str]) -> pd.DataFrame:
    """The fits, by evaluation set and then curve, in the order of the figures."""
    curve = {name: place for place, name in enumerate(list_curves(results)["curve"])}
    eval_set = {name: place for place, name in enumerate(eval_sets)}
    place = fits.assign(c=fits["curve"].map(curve), e=fits["eval_set"].map(eval_set))
    return fits.loc[place.sort_values(["e", "c", "form"], kind="stable").index].reset_index(drop=True)


def show_number(value: Any) -> str:
    """A cell's text: whole numbers with thousands separators, others to four digits, nothing as a dash."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return NOTHING
    if isinstance(value, str | bool):
        return str(value)
    number = float(value)
    sign = "−" if number < 0 else ""
    number = abs(number)
    if number.is_integer() and number < 1e15:
        return f"{sign}{int(number):,}"
    if round(number, 2) == number:  # a guidance scale of 7.5, not 7.500
        return f"{sign}{number:,g}"
    digits = max(0, 3 - math.floor(math.log10(number)))
    return f"{sign}{number:,.{min(digits, 6)}f}"


def show_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """`0.612 (0.600 to 0.624)`, or the value alone where there is no interval."""
    text = f"{value:.{digits}f}"
    shown = text if math.isnan(low) or math.isnan(high) else f"{text} ({low:.{digits}f} to {high:.{digits}f})"
    return shown.replace("-", "−")


def to_markdown(table: pd.DataFrame) -> str:
    """The table as GitHub-flavoured Markdown, for a README or an issue."""
    cells = [[show_number(value).replace("|", "\\|") for value in row] for row in table.itertuples(index=False)]
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table.columns]
    lines = [
        "| " + " | ".join(str(column) for column in table.columns) + " |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
        *("| " + " | ".join(row) + " |" for row in cells),
    ]
    return "\n".join(lines) + "\n"


def _cell(points: pd.DataFrame, curve: str, eval_set: str, metric: str, size: int | None) -> str:
    keep = (points["curve"] == curve) & (points["eval_set"] == eval_set) & (points["metric"] == metric)
    rows = points[keep if size is None else keep & (points["dataset_size"] == size)]
    return show_interval(*rows.iloc[0][["value", "low", "high"]].astype(float)) if len(rows) else NOTHING


def _fit_cell(fits: pd.DataFrame, curve: str, eval_set: str) -> str:
    keep = (fits["curve"] == curve) & (fits["eval_set"] == eval_set) & (fits["form"] == POWER)
    rows = fits[keep]
    return show_interval(*rows.iloc[0][["scaling_ability", "low", "high"]].astype(float)) if len(rows) else NOTHING
