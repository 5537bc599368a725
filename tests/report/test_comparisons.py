"""Who is compared with whom, at which size, and when a difference counts; the truth is planted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd
import pytest

from syn_ray.report.checks import check_input
from syn_ray.report.comparisons import Evidence
from syn_ray.report.findings import Finding, find_all
from syn_ray.report.inputs import COMPARISON_COLUMNS, FORECAST_COLUMNS, ReportError, ReportInput, list_curves
from syn_ray.report.tables import headline_size, point_table, shared_size, summary_table

REFERENCE = 1300
LARGE = (125, 250, 500, 1000, 1300, 2000, 4000)


def plant(curves: dict[str, tuple[float, tuple[int, ...]]], half: float = 0.01) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results and intervals of curves given as {name: (loss at D = 1000, sizes)}; names are `a-g2` or `real`."""
    results, intervals = [], []
    for name, (loss, sizes) in curves.items():
        prompts, _, scale = name.partition("-g")
        about: dict[str, str | float | None] = {
            "source": "real",
            "generator": None,
            "guidance_scale": None,
            "prompts": None,
        }
        if scale:
            about = {"source": "synthetic", "generator": "sd", "guidance_scale": float(scale), "prompts": prompts}
        for size in sizes:
            value = loss * (size / 1000) ** -0.2
            place = {"curve": name, "eval_set": "val", "metric": "loss", "dataset_size": size}
            shared = {
                "native_guidance": about["guidance_scale"],
                "model_id": None,
                "objective": "classify",
                "model": "vit",
            }
            results.append(place | about | shared | {"value": value, "seed": 0})
            intervals.append(place | {"low": value - half, "high": value + half})
    return pd.DataFrame(results), pd.DataFrame(intervals)


NO_FITS = pd.DataFrame(columns=["curve", "eval_set", "form", "scaling_ability", "low", "high"])


def of(found: list[Finding], topic: str) -> list[str]:
    return [finding.text for finding in found if finding.topic == topic]


@pytest.fixture
def paper() -> tuple[pd.DataFrame, pd.DataFrame]:
    """As the paper's study: real images end early, two curves have every size, the rest the reference size alone."""
    return plant(
        {
            "real": (0.5, (125, 250, 500, 732)),
            "captions-g2": (0.6, LARGE),
            "names-g2": (0.8, LARGE),
            **{f"captions-g{scale}": (0.6 + scale / 50, (REFERENCE,)) for scale in (1.5, 3, 5)},
            **{f"names-g{scale}": (0.8 + scale / 50, (REFERENCE,)) for scale in (1.5, 3, 5)},
        }
    )


def test_a_curve_that_ends_early_silences_no_other(paper: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    results, intervals = paper
    found = find_all(results, NO_FITS, intervals, reference_size=REFERENCE)
    assert found[0].text == (  # 0.6 x 1.3 ** -0.2 and (0.6 + 0.03) x 1.3 ** -0.2
        "At 1,300 training images, `captions-g2` has the lowest loss on val: 0.569 (0.559 to 0.579) nats, against "
        "0.598 (0.588 to 0.608) for `captions-g1.5`, the next. Not trained at this size: `real`."
    )
    assert of(found, "real") == [  # 500 ** -0.2 of both: 0.6 / 0.5
        "Loss on val at 500 images is higher than that of real images for 2 of 2 synthetic sources. The lowest among "
        "them, `captions-g2`, has 1.20 times the loss of real images. Not trained at this size: 6 more."
    ]
    captions, names = of(found, "guidance")
    assert captions.startswith("Guidance 1.5 to 5 (sd, captions): loss on val at 1,300 images rises from 0.598")
    assert captions.endswith("lowest at 2.")
    assert "(sd, names): loss on val at 1,300 images" in names
    assert of(found, "prompts")[0].startswith(
        "Prompts `captions` against `names` at 4 guidance scales: loss on val at 1,300 images lower in 4 of 4 (resolved"
    )
    points = point_table(results, intervals)
    summary = summary_table(results, NO_FITS, points, "val", REFERENCE).set_index("curve")
    assert summary["loss on val at D = 1,300"].to_dict()["real"] == "–"
    assert headline_size(points, REFERENCE)[0] == REFERENCE


def test_a_group_is_compared_at_its_own_largest_size() -> None:
    results, intervals = plant(
        {"a-g1": (0.6, LARGE), "a-g2": (0.7, LARGE), "b-g1": (0.8, (125, 250)), "b-g2": (0.9, (125, 250, 500))}
    )
    found = find_all(results, NO_FITS, intervals, reference_size=REFERENCE)
    assert found[0].text.startswith("At 250 training images")  # all four share it
    assert [text.split(" images ")[0].split(" at ")[-1] for text in of(found, "guidance")] == ["4,000", "250"]
    assert "loss on val at 250 images lower in 2 of 2" in of(found, "prompts")[0]
    one = plant({"a-g1": (0.6, LARGE), "b-g1": (0.8, (125, 250)), "b-g2": (0.9, LARGE)})
    assert "loss on val at 250 images lower in 1 of 1" in of(find_all(one[0], NO_FITS, one[1]), "prompts")[0]


def test_scales_that_a_group_was_not_trained_at_are_named() -> None:
    results, intervals = plant({"a-g1": (0.6, (125, 250)), "a-g2": (0.7, (125, 250)), "a-g4": (0.9, (500,))})
    (text,) = of(find_all(results, NO_FITS, intervals), "guidance")
    assert text.startswith("Guidance 1 to 2 (sd, a): loss on val at 250 images rises")
    assert text.endswith("lowest at 1; not trained at this size: 4.")


def test_nothing_in_common_is_said_once_for_each_group() -> None:
    results, intervals = plant({"real": (0.5, (125,)), "a-g1": (0.6, (250,)), "b-g1": (0.6, (500,))})
    found = find_all(results, NO_FITS, intervals, reference_size=REFERENCE)
    assert found[0].text == "The curves share no dataset size, so their losses are not compared."
    assert of(found, "real") == ["No synthetic curve shares a size with a real one, so their losses are not compared."]
    assert of(found, "prompts") == [
        "Prompts `a` against `b` at 1 guidance scale: no size and no score in common, so they are not compared."
    ]
    assert of(found, "scaling") == ["No curve has the three sizes that a law needs, so nothing is said of scaling."]


@pytest.mark.parametrize(
    ("sizes", "reference", "least", "expected"),
    [
        ([{1, 2, 4}, {2, 4}, {1, 2, 4}], None, 2, 4),
        ([{1, 2, 4}, {2, 4}, {2}], None, 2, 2),  # all share it
        ([{1, 2, 4}, {2, 4}, {8}], None, 2, 4),  # two of three, and larger than 2
        ([{1, 2, 4}, {2, 4}, {8}], 2, 2, 2),  # the reference size, where they share none
        ([{1, 2, 4}, {2, 4}, {8}], 8, 2, 4),  # nobody to compare with at the reference size
        ([{1}, {2}], None, 2, None),
        ([{1}, {2}], None, 1, 2),
        ([set(), set()], 4, 1, None),
        ([], 4, 1, None),
    ],
)
def test_the_size_that_is_shared(
    sizes: list[set[int]], reference: int | None, least: int, expected: int | None
) -> None:
    assert shared_size(sizes, reference, least) == expected


def compared(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def test_a_paired_difference_decides_where_it_is_at_hand() -> None:
    """Intervals overlap because the same test images move both; the difference does not feel them."""
    results, intervals = plant({"a-g1": (0.60, (1000,)), "a-g2": (0.62, (1000,))}, half=0.05)
    apart = compared([("val", "loss", 1000.0, "a-g1", "a-g2", -0.03, -0.05, -0.01)])
    assert find_all(results, NO_FITS, intervals)[0].resolved is False
    told = find_all(results, NO_FITS, intervals, comparisons=apart)
    assert told[0].text.startswith(
        "At 1,000 training images, `a-g1` has the lowest loss on val: 0.600 (0.550 to 0.650)"
    )
    assert told[0].resolved is True
    assert "rises from 0.600 (0.550 to 0.650) to 0.620 (0.570 to 0.670); lowest at 1." in of(told, "guidance")[0]


def test_a_paired_difference_that_may_be_nothing_is_not_resolved() -> None:
    results, intervals = plant({"a-g1": (0.60, (1000,)), "a-g2": (0.70, (1000,)), "a-g3": (0.70, (1000,))}, half=0.01)
    rows = [("val", "loss", 1000, "a-g2", "a-g1", 0.02, -0.01, 0.05), ("val", "loss", 1000, "a-g1", "a-g3", 0.0, -1, 1)]
    open_pair = find_all(results[:2], NO_FITS, intervals, comparisons=compared(rows[:1]))[0]
    assert open_pair.text.endswith("`a-g2` 0.700 (0.690 to 0.710): the interval of their difference holds 0.")
    assert open_pair.resolved is False
    assert find_all(results, NO_FITS, intervals, comparisons=compared(rows))[0].text.endswith(
        ": the intervals of their differences hold 0."
    )
    other_size = compared(
        [("val", "loss", 500, "a-g1", "a-g2", 0.0, -1, 1), ("v2", "loss", 1000, "a-g1", "a-g2", 0.0, -1, 1)]
    )
    assert find_all(results[:2], NO_FITS, intervals, comparisons=other_size)[0].resolved is True


def test_slopes_are_compared_in_pairs_too() -> None:
    results, intervals = plant({"a-g1": (0.60, (1000,)), "a-g2": (0.62, (1000,))})
    fits = pd.DataFrame(
        [("a-g1", "val", "power", 0.20, 0.15, 0.25), ("a-g2", "val", "power", 0.17, 0.12, 0.22)],
        columns=NO_FITS.columns,
    )
    fits = pd.concat([fits, fits.assign(form="power_offset", scaling_ability=0.9, low=0.8, high=1.0)])
    apart = compared([("val", "scaling_ability", None, "a-g1", "a-g2", 0.03, 0.01, 0.05)])
    assert "is not resolved between" in of(find_all(results, fits, intervals), "scaling")[0]
    assert "is largest for `a-g1`, 0.200" in of(find_all(results, fits, intervals, comparisons=apart), "scaling")[0]
    evidence = Evidence(point_table(results, intervals), apart)
    one, two = evidence.slopes(fits, "val", ["a-g1", "a-g2"])
    assert not one.ties(two)
    assert not two.ties(one)


def foretold(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(FORECAST_COLUMNS))


def test_a_curve_that_bends_is_named_with_what_its_line_foretold() -> None:
    results, intervals = plant({"real": (0.5, LARGE), "a-g1": (0.6, LARGE), "a-g2": (0.6, LARGE)})
    forecasts = foretold(
        [
            ("real", "val", "power", 4000, math.log(0.85), -0.2, -0.1, False),
            ("real", "val", "m4", 4000, math.log(1.02), -0.1, 0.1, True),
            ("a-g1", "val", "power", 4000, math.log(1.04), -0.01, 0.09, False),
            ("a-g1", "val", "broken", 4000, 0.0, -0.1, 0.1, True),
            ("a-g2", "val", "power", 4000, math.log(1.20), 0.1, 0.3, True),
            ("a-g2", "v2", "power", 4000, -1.0, -1.1, -0.9, True),
        ]
    )
    bend = next(f for f in find_all(results, NO_FITS, intervals, forecasts=forecasts) if "foretells" in f.text)
    assert bend.text == (
        "Fitted without the largest size, the line foretells the loss there on val for 1 of 3 curves: the 95% interval "
        "of its error holds 0. It bends for `real` (15.0% too low; m4: 2.0% too high) and `a-g2` (20.0% too high): "
        "k is a mean over the window there, and the line does not carry beyond."
    )
    assert bend.resolved is True
    straight = find_all(results, NO_FITS, intervals, forecasts=forecasts[forecasts["curve"] == "a-g1"])
    assert of(straight, "scaling")[-1] == (
        "Fitted without the largest size, the line foretells the loss there on val for 1 of 1 curve: the 95% interval "
        "of its error holds 0."
    )


def test_rows_of_scores_without_model_describe_no_second_curve() -> None:
    results, _ = plant({"real": (0.5, (125,)), "a-g1": (0.6, (125,))})
    scores = results.assign(eval_set="images", metric="diversity", objective=None, model=None, seed=None)
    both = pd.concat([scores, results], ignore_index=True)
    assert list(list_curves(both)["model"]) == ["vit", "vit"]
    with pytest.raises(ReportError, match="described in two ways"):
        list_curves(pd.concat([both, results.assign(model="another")]))


def test_a_law_is_asked_for_where_the_window_holds_three_sizes(quickstart: ReportInput) -> None:
    without = dataclasses.replace(quickstart, fits=quickstart.fits.iloc[:0], fit_window=(512, 1024))
    check_input(without)
    with pytest.raises(ReportError, match="fits: 0 power laws for curve 'real' on val"):
        check_input(dataclasses.replace(without, fit_window=(512, 2048)))
    some = quickstart.results.query("curve != 'real' or eval_set != 'images'")
    check_input(dataclasses.replace(quickstart, results=some))  # a curve that is not scored
    with pytest.raises(ReportError, match="comparisons: column a is missing"):
        check_input(dataclasses.replace(quickstart, comparisons=compared([]).drop(columns="a")))
    with pytest.raises(ReportError, match="forecasts: column chosen is missing"):
        check_input(dataclasses.replace(quickstart, forecasts=foretold([]).drop(columns="chosen")))
    with pytest.raises(ReportError, match="results: the table is empty"):
        check_input(dataclasses.replace(quickstart, results=quickstart.results.iloc[:0]))
