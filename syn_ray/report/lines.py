"""What the charts draw, as tables: points with their place in the fit window, lines and bands of the law, bars, scores.

Kept apart from `figures` so that the geometry can be tested without a chart.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from syn_ray.report.inputs import IMAGES, POWER
from syn_ray.report.tables import NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE_POINTS = 9  # the law is straight in log-log axes; more than two points keep it so on a page that changes an axis


def law(
    dataset_sizes: np.ndarray, scaling_ability: float, performance_fitted: float, reference_size: int
) -> np.ndarray:
    """Loss of the fitted power law.

    Source: paper, equation 2, ln L(D) = −k (ln D − ln D_reference) − performance.
    """
    exponent = -scaling_ability * (np.log(dataset_sizes) - np.log(reference_size)) - performance_fitted
    return np.asarray(np.exp(exponent))


def fit_lines(points: pd.DataFrame, fits: pd.DataFrame, reference_size: int) -> pd.DataFrame:
    """Lines and bands of every power law: `value`, `low`, `high` over `dataset_size`, and the `part` of the line.

    A fits table holds an interval of the slope and none of the level, so a band is the line turned between the ends of
    that interval about the middle of the window, where least squares leaves slope and level uncorrelated.
    """
    tables = []
    losses = points[points["metric"] == "loss"]
    for row in fits[fits["form"] == POWER].to_dict("records"):
        own = losses[(losses["curve"] == row["curve"]) & (losses["eval_set"] == row["eval_set"])]
        if own.empty:
            continue
        first, last = float(own["dataset_size"].min()), float(own["dataset_size"].max())
        start, end = max(first, float(row["window_min"])), min(last, float(row["window_max"]))
        for part, left, right in (("before", first, start), ("window", start, end), ("after", end, last)):
            if right <= left:
                continue
            sizes = np.geomspace(left, right, LINE_POINTS)
            value = law(sizes, row["scaling_ability"], row["performance_fitted"], reference_size)
            turn = np.log(sizes) - (np.log(start) + np.log(end)) / 2
            edges = [value * np.exp(-(float(row[side]) - row["scaling_ability"]) * turn) for side in ("low", "high")]
            tables.append(
                pd.DataFrame(
                    {
                        "curve": row["curve"],
                        "eval_set": row["eval_set"],
                        "part": part,
                        "dataset_size": sizes,
                        "value": value,
                        "low": np.minimum(*edges),
                        "high": np.maximum(*edges),
                    }
                )
            )
    columns = ["curve", "eval_set", "part", "dataset_size", "value", "low", "high"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def training_points(results: pd.DataFrame, points: pd.DataFrame, fits: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Points of one metric: `kind` is `mean`, or `seed` where there are several; `in_window`: did the fit see it."""
    keys = ["curve", "eval_set", "dataset_size"]
    means = points[(points["metric"] == metric) & (points["eval_set"] != IMAGES)].assign(kind="mean")
    windows = fits.loc[fits["form"] == POWER, ["curve", "eval_set", "window_min", "window_max"]]
    means = means.merge(windows, on=["curve", "eval_set"], how="left")
    sizes = means["dataset_size"].astype(float)  # so that a curve without a law compares as outside, not as unknown
    means["in_window"] = sizes.between(means["window_min"], means["window_max"])
    means["window"] = [
        NOTHING if np.isnan(low) else f"{low:,.0f} to {high:,.0f}" + ("" if inside else " (this point is outside)")
        for low, high, inside in zip(means["window_min"], means["window_max"], means["in_window"], strict=True)
    ]
    means["interval"] = _interval_words(means, 3)
    several = means.loc[means["seeds"] > 1, keys]
    singles = results[(results["metric"] == metric) & (results["eval_set"] != IMAGES)].merge(several, on=keys)
    singles = singles[[*keys, "value"]].assign(kind="seed", in_window=True, window="", interval="", seeds=1)
    shown = [*keys, "value", "kind", "in_window", "window", "interval", "seeds"]
    return (
        pd.concat([means[shown], singles[shown]], ignore_index=True)
        if len(singles)
        else means[shown].reset_index(drop=True)
    )


def slope_bars(fits: pd.DataFrame, curves: Sequence[str]) -> pd.DataFrame:
    """One bar per curve and evaluation set, power law only."""
    bars = fits[(fits["form"] == POWER) & fits["curve"].isin(curves)].reset_index(drop=True)
    window = [f"{low:,.0f} to {high:,.0f}" for low, high in zip(bars["window_min"], bars["window_max"], strict=True)]
    shown = ["curve", "eval_set", "scaling_ability", "low", "high", "r2"]
    return bars[shown].assign(window=window, interval=_interval_words(bars, 3))


def score_points(points: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """One row per scored curve: both scores with intervals, its guidance, its label, and the `group` its line joins."""
    scores = points[points["eval_set"] == IMAGES]
    sides = []
    for metric, axis in (("diversity", "x"), ("recognizability", "y")):
        own = scores.loc[scores["metric"] == metric, ["curve", "value", "low", "high", "dataset_size"]]
        names = {"value": metric, "low": f"low_{axis}", "high": f"high_{axis}"}
        sides.append(own.rename(columns=names).rename(columns={"dataset_size": "images_scored"}))
    table = curves.merge(sides[0], on="curve").merge(sides[1].drop(columns="images_scored"), on="curve")
    guided = (table["source"] == "synthetic") & table["guidance_scale"].notna()
    scale = table["guidance_scale"].astype(float)
    sources = table[["generator", "model_id", "prompts"]].itertuples(index=False)
    groups = [" / ".join(str(part) for part in parts) for parts in sources]
    shown = [
        "curve",
        "prompts",
        "guidance_scale",
        "images_scored",
        "diversity",
        "recognizability",
        "low_x",
        "high_x",
        "low_y",
        "high_y",
    ]
    joined = [group if known else None for group, known in zip(groups, guided, strict=True)]
    return table[shown].assign(
        prompts=table["prompts"].astype(object).where(table["prompts"].notna(), NOTHING),
        group=pd.Series(joined, index=table.index, dtype="str"),
        guidance=[f"{value:g}" if known else NOTHING for value, known in zip(scale, guided, strict=True)],
        label=[
            f"{value:g}" if known else name for value, known, name in zip(scale, guided, table["curve"], strict=True)
        ],
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Round values for a logarithmic axis; Vega's own are powers of ten times 1 to 9, which leaves 1 to 2 empty."""
    low, high = low * 0.95, high * 1.05
    if high / low > 12:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        candidates = [lead * 10.0**exponent for exponent in exponents for lead in (1, 2, 5)]
        return [round(value, 12) for value in candidates if low <= value <= high]
    unit = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(lead * unit for lead in (1, 2, 2.5, 5, 10) if (high - low) / (lead * unit) <= 7)
    return [round(place * step, 12) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _interval_words(frame: pd.DataFrame, digits: int) -> list[str]:
    pairs = zip(frame["low"].astype(float), frame["high"].astype(float), strict=True)
    return [
        NOTHING if np.isnan(low) or np.isnan(high) else f"{low:.{digits}f} to {high:.{digits}f}" for low, high in pairs
    ]
