"""Points, display tables, number formats, and what a missing number is answered with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from syn_ray.report.checks import check_input
from syn_ray.report.inputs import CurveSamples, ReportError, ReportInput, list_curves, list_eval_sets
from syn_ray.report.lines import fit_lines, law, log_ticks, training_points
from syn_ray.report.tables import (
    NOTHING,
    curves_table,
    point_table,
    results_table,
    show_interval,
    show_number,
    summary_table,
    to_markdown,
)


def test_points_are_means_over_seeds(effects: ReportInput) -> None:
    points = point_table(effects.results)
    row = points[
        (points["curve"] == "real")
        & (points["eval_set"] == "v2")
        & (points["metric"] == "loss")
        & (points["dataset_size"] == 512)
    ].iloc[0]
    own = effects.results.query("curve == 'real' and eval_set == 'v2' and metric == 'loss' and dataset_size == 512")[
        "value"
    ].astype(float)
    half = 4.302652729911275 * own.std() / np.sqrt(3)  # t(2, 0.975)
    assert (row["seeds"], row["value"]) == (3, pytest.approx(own.mean()))
    assert (row["low"], row["high"]) == (pytest.approx(own.mean() - half), pytest.approx(own.mean() + half))
    assert points.loc[points["eval_set"] == "images", "low"].isna().all()


def test_every_number_stands_in_the_results_table(effects: ReportInput) -> None:
    table = results_table(effects.results)
    metrics = ["loss", "top1", "top5", "recognizability", "diversity"]
    assert int(table[metrics].notna().sum().sum()) == len(effects.results)
    assert sorted(table[metrics].stack().dropna()) == pytest.approx(sorted(effects.results["value"].astype(float)))
    assert list(table["curve"].unique()) == list(list_curves(effects.results)["curve"])
    assert list(table["eval_set"].unique())[:2] == ["val", "sketch"]


def test_order_of_curves_and_evaluation_sets(effects: ReportInput) -> None:
    shuffled = effects.results.sample(frac=1, random_state=3)
    names = list(list_curves(shuffled)["curve"])
    assert names[0] == "real"
    scales = [float(name.rsplit("-g", 1)[1]) for name in names[1:]]
    assert scales == [1, 1.5, 2, 4, 7.5] * 2
    assert list_eval_sets(shuffled)[0] == "val"
    assert list_eval_sets(shuffled, ("v2", "val"))[:2] == ["v2", "val"]


def test_summary_and_curves(quickstart: ReportInput) -> None:
    points = point_table(quickstart.results, quickstart.intervals)
    summary = summary_table(quickstart.results, quickstart.fits, points, "val")
    assert list(summary.columns) == [
        "curve",
        "loss on val at D = 2,048",
        "top-1 on val at D = 2,048",
        "scaling ability k on val",
        "recognizability",
        "diversity",
    ]
    assert summary.iloc[0]["recognizability"] == "0.916 (0.898 to 0.934)"
    assert list(curves_table(quickstart.results)["dataset_sizes"]) == ["256, 512, 1,024, 2,048"] * 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NOTHING),
        (float("nan"), NOTHING),
        (2048, "2,048"),
        (7.5, "7.5"),
        (0.123456, "0.1235"),
        (-0.0123456, "−0.01235"),
        (1234.5678, "1,235"),
        ("real", "real"),
        (0, "0"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    assert show_number(value) == text


def test_intervals_and_markdown() -> None:
    assert show_interval(-0.05, -0.061, 0.01) == "−0.050 (−0.061 to 0.010)"
    assert show_interval(0.5, float("nan"), float("nan")) == "0.500"
    table = to_markdown(pd.DataFrame({"curve": ["a|b"], "loss": [0.25]}))
    assert table == "| curve | loss |\n|---|---:|\n| a\\|b | 0.25 |\n"


def test_lines_pass_through_the_law_and_the_band_turns_in_the_middle(effects: ReportInput) -> None:
    points = point_table(effects.results)
    lines = fit_lines(points, effects.fits, effects.reference_size)
    row = effects.fits.query("curve == 'real' and eval_set == 'val'").iloc[0]
    own = lines.query("curve == 'real' and eval_set == 'val' and part == 'window'")
    k, performance = float(row["scaling_ability"]), float(row["performance_fitted"])
    assert law(np.array([2048.0]), k, performance, 2048)[0] == pytest.approx(np.exp(-performance))
    assert own["value"].iloc[-1] / own["value"].iloc[0] == pytest.approx((4096 / 256) ** -k)
    middle = own.iloc[len(own) // 2]
    assert middle["low"] == pytest.approx(middle["value"]) == middle["high"]
    edge = own.iloc[-1]
    assert edge["high"] / edge["value"] == pytest.approx(16 ** (0.5 * (k - float(row["low"]))))
    after = lines.query("curve == 'real' and eval_set == 'val' and part == 'after'")
    assert (after["dataset_size"].min(), after["dataset_size"].max()) == (pytest.approx(4096), pytest.approx(8192))


def test_points_outside_the_window_are_marked(effects: ReportInput) -> None:
    dots = training_points(effects.results, point_table(effects.results), effects.fits, "loss")
    means = dots[dots["kind"] == "mean"]
    assert set(means.loc[~means["in_window"].astype(bool), "dataset_size"]) == {8192}
    assert (dots["kind"] == "seed").sum() == 3 * len(means)


@pytest.mark.parametrize(("low", "high"), [(0.64, 1.45), (1.05, 1.12), (0.1, 9.0), (0.02, 300.0)])
def test_log_axis_has_enough_ticks(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 4 <= len(ticks) <= 14
    assert ticks == sorted(set(ticks))


def drop(report: ReportInput, query: str) -> ReportInput:
    return replace(report, results=report.results.drop(report.results.query(query).index))


def test_missing_numbers_are_errors_that_name_them(quickstart: ReportInput) -> None:
    check_input(quickstart)
    with pytest.raises(
        ReportError, match=r"no top1 on sketch for curve 'real' at dataset_size 512, seed 0\. Run `syn-ray evaluate`"
    ):
        check_input(
            drop(quickstart, "curve == 'real' and eval_set == 'sketch' and metric == 'top1' and dataset_size == 512")
        )
    with pytest.raises(ReportError, match="no loss on v2 for curve 'sd-captions-g2'"):
        check_input(drop(quickstart, "curve == 'sd-captions-g2' and eval_set == 'v2'"))
    with pytest.raises(ReportError, match="curve 'sd-captions-g1' has 0 values of diversity"):
        check_input(drop(quickstart, "curve == 'sd-captions-g1' and metric == 'diversity'"))
    with pytest.raises(ReportError, match="curve 'real' has image scores and no training result"):
        check_input(drop(quickstart, "curve == 'real' and eval_set != 'images'"))
    with pytest.raises(ReportError, match="only image scores"):
        check_input(drop(quickstart, "eval_set != 'images'"))


def test_a_study_without_image_scores_is_whole(quickstart: ReportInput) -> None:
    check_input(drop(quickstart, "eval_set == 'images'"))


def test_wrong_tables_are_errors(quickstart: ReportInput) -> None:
    results, fits = quickstart.results, quickstart.fits
    bad = results.copy()
    bad.loc[bad["metric"] == "loss", "value"] = float("nan")
    with pytest.raises(ReportError, match="is nan, not a finite number"):
        check_input(replace(quickstart, results=bad))
    with pytest.raises(ReportError, match="stands there twice"):
        check_input(replace(quickstart, results=pd.concat([results, results.tail(1)])))
    with pytest.raises(ReportError, match="results: column metric is missing"):
        check_input(replace(quickstart, results=results.drop(columns="metric")))
    with pytest.raises(ReportError, match="fits: 0 power laws for curve 'real' on val"):
        check_input(replace(quickstart, fits=fits.iloc[1:]))
    with pytest.raises(ReportError, match="above 0"):
        check_input(replace(quickstart, results=results.assign(value=-1.0)))
    with pytest.raises(ReportError, match="point_interval_method is empty"):
        check_input(replace(quickstart, point_interval_method=""))
    with pytest.raises(ReportError, match="eval_sets: 'nowhere' has no results"):
        check_input(replace(quickstart, eval_sets=("nowhere",)))
    with pytest.raises(ReportError, match="samples: curve 'ghost' has no results"):
        check_input(replace(quickstart, samples=(CurveSamples("ghost", (), ()),)))
    with pytest.raises(ReportError, match="described in two ways"):
        list_curves(pd.concat([results, results.tail(1).assign(model="another")]))
