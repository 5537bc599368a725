"""The sentences against tables in which the truth is planted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from syn_ray.report.findings import Finding, find_all, sentences

if TYPE_CHECKING:
    from syn_ray.report.inputs import ReportInput


def plant(
    rows: list[tuple[str, float, float]], sizes: tuple[int, ...] = (256, 2048), **shared: object
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Results, fits and intervals for curves given as (name, loss at the largest size, half width)."""
    results, fits, intervals = [], [], []
    for name, loss, half in rows:
        synthetic = name != "real"
        guidance = float(name.rsplit("-g", 1)[1]) if "-g" in name else None
        prompts = name.split("-")[0] if synthetic else None
        for size in sizes:
            value = loss * (size / sizes[-1]) ** -0.2
            common = {"curve": name, "eval_set": "val", "dataset_size": size, "metric": "loss"}
            results.append(
                {
                    **common,
                    "study": "planted",
                    "source": "synthetic" if synthetic else "real",
                    "value": value,
                    "seed": 0,
                    "generator": "stable_diffusion" if synthetic else None,
                    "model_id": None,
                    "guidance_scale": guidance,
                    "native_guidance": guidance,
                    "prompts": prompts,
                    "objective": "classify",
                    "model": "vit",
                }
                | shared
            )
            intervals.append({**common, "low": value - half, "high": value + half})
        fits.append(
            {"curve": name, "eval_set": "val", "form": "power", "scaling_ability": 0.2, "low": 0.15, "high": 0.25}
        )
    return pd.DataFrame(results), pd.DataFrame(fits), pd.DataFrame(intervals)


def add_scores(
    results: pd.DataFrame, intervals: pd.DataFrame, scores: dict[str, tuple[float, float]], half: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows, bounds = [], []
    for curve, pair in scores.items():
        base = results[results["curve"] == curve].iloc[0].to_dict()
        for metric, value in zip(("recognizability", "diversity"), pair, strict=True):
            place = {"eval_set": "images", "metric": metric, "dataset_size": 500}
            rows.append(base | place | {"value": value, "seed": None})
            bounds.append({"curve": curve, **place, "low": value - half, "high": value + half})
    return pd.concat([results, pd.DataFrame(rows)]), pd.concat([intervals, pd.DataFrame(bounds)])


def of(findings: list[Finding], topic: str) -> list[Finding]:
    return [finding for finding in findings if finding.topic == topic]


def test_clear_case_names_the_winner_with_its_numbers() -> None:
    first = find_all(*plant([("captions-g1", 0.9, 0.01), ("real", 0.7, 0.01)]))[0]
    assert first.text == (
        "At 2,048 training images, `real` has the lowest loss on val: 0.700 (0.690 to 0.710) nats, "
        "against 0.900 (0.890 to 0.910) for `captions-g1`, the next."
    )
    assert first.resolved is True


def test_overlapping_intervals_are_not_resolved() -> None:
    first = find_all(*plant([("captions-g1", 0.72, 0.02), ("real", 0.70, 0.02), ("captions-g2", 0.9, 0.02)]))[0]
    assert first.text == (
        "At 2,048 training images, the lowest loss on val is not resolved between `real` 0.700 (0.680 to 0.720) and "
        "`captions-g1` 0.720 (0.700 to 0.740): their intervals overlap."
    )
    assert first.resolved is False


def test_touching_intervals_are_not_resolved() -> None:
    assert find_all(*plant([("captions-g1", 0.75, 0.125), ("real", 0.5, 0.125)]))[0].resolved is False


def test_one_seed_and_no_interval_is_never_resolved_and_says_so() -> None:
    results, fits, _ = plant([("captions-g1", 5.0, 0.0), ("real", 0.1, 0.0)])
    found = find_all(results, fits)
    assert "have no interval: not resolved" in found[0].text
    assert found[0].resolved is False
    assert of(found, "reading")[0].text.startswith("One training seed: training noise is not measured.")


def test_seeds_give_an_interval_by_student_t() -> None:
    frames = [
        plant([("captions-g1", 0.9 + noise, 0), ("real", 0.7 + noise, 0)], seed=seed)[0]
        for seed, noise in enumerate((-0.01, 0, 0.01))
    ]
    found = find_all(pd.concat(frames), plant([("captions-g1", 0.9, 0), ("real", 0.7, 0)])[1])
    # t(2, 0.975) = 4.303; standard deviation 0.01; half width 4.303 * 0.01 / sqrt(3) = 0.0248
    assert "0.700 (0.675 to 0.725) nats" in found[0].text
    assert found[0].resolved is True
    assert of(found, "reading")[0].text == "Every training point is the mean of 3 training seeds."


def test_single_curve_compares_nothing() -> None:
    found = find_all(*plant([("real", 0.7, 0.01)]))
    assert found[0] == Finding(
        "loss",
        "At 2,048 training images, `real` has a loss of 0.700 (0.690 to 0.710) nats on val. "
        "It is the only curve, so nothing is compared.",
    )
    assert [finding.topic for finding in found] == ["loss", "scaling", "reading"]


def test_missing_real_curve_is_said() -> None:
    found = find_all(*plant([("captions-g1", 0.7, 0.01), ("captions-g2", 0.9, 0.01)]))
    assert of(found, "real")[0].text.startswith("No real curve was trained")
    assert not any("`real`" in text for text in sentences(found))


def test_real_beaten_by_some_and_tied_with_some() -> None:
    found = find_all(
        *plant(
            [("real", 0.8, 0.01), ("captions-g1", 0.72, 0.01), ("captions-g2", 0.81, 0.01), ("captions-g4", 1.0, 0.01)]
        )
    )
    (real,) = of(found, "real")
    assert real.text == (
        "Loss on val at 2,048 images is higher than that of real images for 1 of 3 synthetic sources; "
        "lower for `captions-g1`; "
        "not resolved for `captions-g2`. "
        "The lowest among them, `captions-g1`, has 0.90 times the loss of real images."
    )
    assert real.resolved is False


def test_curves_are_compared_at_the_largest_size_they_share() -> None:
    results, fits, intervals = plant([("captions-g1", 0.9, 0.01), ("real", 0.7, 0.01)], sizes=(256, 1024, 2048))
    keep = ~((results["curve"] == "real") & (results["dataset_size"] == 2048))
    assert find_all(results[keep], fits, intervals)[0].text.startswith("At 1,024 training images, `real`")
    disjoint = results[(results["curve"] == "real") == (results["dataset_size"] == 256)]
    assert (
        find_all(disjoint, fits, intervals)[0].text
        == "The curves share no dataset size, so their losses are not compared."
    )


def test_scaling_ability_resolved_tied_flat_and_falling() -> None:
    results, fits, intervals = plant(
        [("real", 0.7, 0.01), ("captions-g1", 0.9, 0.01), ("captions-g4", 1.0, 0.01), ("captions-g7", 1.1, 0.01)]
    )
    fits[["scaling_ability", "low", "high"]] = [
        (0.3, 0.28, 0.32),
        (0.2, 0.18, 0.22),
        (0.01, -0.02, 0.04),
        (-0.1, -0.12, -0.08),
    ]
    top, rising, flat = of(find_all(results, fits, intervals), "scaling")
    assert top.text.endswith(
        "is largest for `real`, 0.300 (0.280 to 0.320), against 0.200 (0.180 to 0.220) for `captions-g1`, the next."
    )
    assert (top.resolved, rising.resolved, flat.resolved) == (True, True, False)
    assert rising.text == "More images raise the loss of `captions-g7`: the interval of k is below 0."
    assert flat.text == "Whether more images help `captions-g4` is not resolved: the interval of k holds 0."
    fits.loc[1, "high"] = 0.29
    assert (
        "the largest is not resolved between `real` 0.300" in of(find_all(results, fits, intervals), "scaling")[0].text
    )


def test_guidance_names_direction_steps_and_the_best_scale() -> None:
    results, fits, intervals = plant(
        [("captions-g7.5", 1.4, 0.01), ("captions-g1", 0.805, 0.01), ("captions-g2", 0.8, 0.01)]
    )
    scores = {"captions-g1": (0.75, 0.20), "captions-g2": (0.74, 0.17), "captions-g7.5": (0.90, 0.19)}
    results, intervals = add_scores(results, intervals, scores, 0.02)
    loss, images = of(find_all(results, fits, intervals), "guidance")
    assert loss.text == (
        "Guidance 1 to 7.5 (stable_diffusion, captions): loss on val at 2,048 images "
        "rises from 0.805 (0.795 to 0.815) to 1.400 (1.390 to 1.410), "
        "though not at every step; lowest at 2 (not resolved from 1)."
    )
    assert images.text == (
        "Guidance 1 to 7.5 (stable_diffusion, captions): recognizability "
        "rises from 0.750 (0.730 to 0.770) to 0.900 (0.880 to 0.920), though not "
        "at every step; diversity goes from 0.200 (0.180 to 0.220) to 0.190 (0.170 to 0.210), not resolved."
    )
    assert images.resolved is False


def test_prompt_sets_are_compared_at_equal_guidance_only() -> None:
    names = ["captions-g1", "captions-g2", "captions-g4", "classnames-g1", "classnames-g2"]
    results, fits, intervals = plant(
        [(name, loss, 0.01) for name, loss in zip(names, (0.8, 0.9, 1.0, 0.9, 0.91), strict=True)]
    )
    scores = dict(zip(names, ((0.7, 0.3), (0.7, 0.3), (0.7, 0.3), (0.8, 0.2), (0.8, 0.2)), strict=True))
    results, intervals = add_scores(results, intervals, scores, 0.01)
    (found,) = of(find_all(results, fits, intervals), "prompts")
    assert found.text == (
        "Prompts `captions` against `classnames` at 2 guidance scales: "
        "diversity higher in 2 of 2 (resolved in 2; mean difference +0.100); "
        "recognizability lower in 2 of 2 (resolved in 2; mean difference −0.100); "
        "loss on val at 2,048 images lower in 2 of 2 "
        "(resolved in 1; mean difference −0.055)."
    )
    assert found.resolved is False


def test_generators_are_compared_at_equal_prompts_and_guidance_only() -> None:
    """Two prompt sets at guidance 2, one of them at 4 too; the third generator shares only captions at 2."""
    first = [("captions-g2", 0.80, 0.01), ("captions-g4", 0.90, 0.01), ("classnames-g2", 1.0, 0.01)]
    second = [("captions-g2", 0.85, 0.01), ("captions-g4", 0.95, 0.01), ("classnames-g2", 0.995, 0.01)]
    third = [("captions-g2", 1.1, 0.01), ("x-g3", 1.0, 0.01)]
    planted = [
        table.assign(curve=name + "-" + table["curve"])
        for name, rows in (("sd", first), ("imagen", second), ("muse", third))
        for table in plant(rows, generator=name)
    ]
    results, fits, intervals = (pd.concat(planted[part::3], ignore_index=True) for part in range(3))
    found = of(find_all(results, fits, intervals), "generator")
    assert [finding.text for finding in found] == [
        "Generator `sd` against `imagen` at 2 guidance scales with 2 prompt sets: loss on val at 2,048 images "
        "lower in 2 of 3 (resolved in 2; mean difference −0.032).",
        "Generator `sd` against `muse` at 1 guidance scale: loss on val at 2,048 images "
        "lower in 1 of 1 (resolved in 1; mean difference −0.300).",
        "Generator `imagen` against `muse` at 1 guidance scale: loss on val at 2,048 images "
        "lower in 1 of 1 (resolved in 1; mean difference −0.250).",
    ]
    assert [finding.resolved for finding in found] == [False, True, True]
    assert not of(find_all(*plant(first)), "generator")


def test_one_prompt_set_gives_no_prompt_sentence() -> None:
    assert not of(find_all(*plant([("captions-g1", 0.8, 0.01), ("captions-g2", 0.9, 0.01)])), "prompts")


def test_planted_studies_are_told_as_planted(quickstart: ReportInput, effects: ReportInput) -> None:
    quick = find_all(quickstart.results, quickstart.fits, quickstart.intervals, quickstart.eval_sets)
    assert quick[0].text.startswith("At 2,048 training images, `real` has the lowest loss on val")
    assert (
        of(quick, "sets")[0].text
        == "On the other evaluation sets the lowest loss belongs to `real` on sketch, rendition, v2 and adversarial."
    )
    every = find_all(effects.results, effects.fits, None, effects.eval_sets)
    assert "`sd-captions-g7.5` and `sd-classnames-g7.5`" in of(every, "scaling")[1].text
    assert "diversity higher in 5 of 5" in of(every, "prompts")[0].text


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_resolution_depends_on_intervals_not_on_units(quickstart: ReportInput, shift: float) -> None:
    scaled = replace(quickstart, results=quickstart.results.assign(value=quickstart.results["value"] * shift))
    assert scaled.intervals is not None
    bounds = scaled.intervals.assign(low=scaled.intervals["low"] * shift, high=scaled.intervals["high"] * shift)
    tags = [f.resolved for f in find_all(scaled.results, scaled.fits, bounds)]
    assert tags == [f.resolved for f in find_all(quickstart.results, quickstart.fits, quickstart.intervals)]
    assert np.isfinite(bounds["low"]).all()


def test_prompt_sets_without_scores_and_without_a_common_size_are_not_compared() -> None:
    small, large = plant([("captions-g2", 1.0, 0.01)]), plant([("names-g2", 1.2, 0.01)], sizes=(512, 4096))
    results, fits, intervals = (pd.concat(pair, ignore_index=True) for pair in zip(small, large, strict=True))
    apart = [f for f in find_all(results, fits, intervals) if f.topic == "prompts"]
    assert [f.resolved for f in apart] == [None]
    assert apart[0].text.endswith("no size and no score in common, so they are not compared.")
    at_one_size = plant([("captions-g2", 1.0, 0.01), ("names-g2", 1.2, 0.01)])
    assert [f.resolved for f in find_all(*at_one_size) if f.topic == "prompts"] == [True]
