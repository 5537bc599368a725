"""What a report of CLIP has beside the rest: mixing real and synthetic images, Table 1, retrieval."""

from __future__ import annotations

import pandas as pd
import pytest

from syn_ray.datasets.downstream import DOWNSTREAM as DOWNSTREAM_SETS
from syn_ray.report.comparisons import Evidence
from syn_ray.report.findings_of_mixing import mixing
from syn_ray.report.inputs import CURVE_COLUMNS, DOWNSTREAM, HELD_OUT
from syn_ray.report.tables import point_table
from syn_ray.report.zero_shot import downstream_table, published_table, retrieval_table

ABOUT: dict[str, dict[str, object]] = {
    "real": {"source": "real"},
    "sd-g2": {"source": "synthetic", "generator": "sd", "guidance_scale": 2.0, "prompts": "pair_captions"},
    "sd-g4": {"source": "synthetic", "generator": "sd", "guidance_scale": 4.0, "prompts": "pair_captions"},
    "mixed-sd-g2": {"source": "mixed", "generator": "sd", "guidance_scale": 2.0, "prompts": "pair_captions"},
}


def _row(curve: str, eval_set: str, metric: str, size: int, value: float, seed: int = 0) -> dict[str, object]:
    blank: dict[str, object] = dict.fromkeys(CURVE_COLUMNS)
    place = {"curve": curve, "eval_set": eval_set, "metric": metric, "dataset_size": size, "value": value, "seed": seed}
    return blank | {"objective": "clip", "model": "tiny"} | ABOUT[curve] | place


def _planted(losses: dict[str, list[float]], half: float) -> tuple[Evidence, pd.DataFrame]:
    rows = [
        _row(curve, "val", "loss", size, value)
        for curve, values in losses.items()
        for size, value in zip((100, 200, 400), values, strict=False)
    ]
    table = pd.DataFrame(rows)
    points = table[["curve", "eval_set", "metric", "dataset_size"]].assign(
        low=table["value"] - half, high=table["value"] + half
    )
    return Evidence(point_table(table, points)), table[list(CURVE_COLUMNS)].drop_duplicates()


def test_mixing_is_compared_with_each_half_at_each_size() -> None:
    evidence, curves = _planted(
        {"real": [2.0, 1.5, 1.0], "sd-g2": [2.2, 1.9, 1.8], "sd-g4": [3, 3, 3], "mixed-sd-g2": [1.8, 1.505, 1.2]}, 0.01
    )
    (finding,) = mixing(evidence, curves, "val")
    assert finding.text == (
        "Loss of `mixed-sd-g2` on val: against `real` lower at 100, higher at 400, not resolved at 200; "
        "against `sd-g2` lower at 100, 200 and 400."
    )
    assert finding.resolved is False


def test_a_mixed_curve_without_its_halves_says_nothing() -> None:
    evidence, curves = _planted({"mixed-sd-g2": [1.8, 1.5, 1.2], "sd-g4": [3, 3, 3]}, 0.01)
    assert list(mixing(evidence, curves, "val")) == []


def test_sizes_that_only_one_has_are_left_out() -> None:
    evidence, curves = _planted({"real": [2.0], "mixed-sd-g2": [1.8, 1.5, 1.2]}, 0.01)
    (finding,) = mixing(evidence, curves, "val")
    assert finding.text == "Loss of `mixed-sd-g2` on val: against `real` lower at 100."
    assert finding.resolved is True


@pytest.fixture
def results() -> pd.DataFrame:
    rows = []
    for seed in (0, 1):
        for curve, size, cars, pets in [("sd-g2", 100, 0.2, 0.4), ("real", 200, 0.5, 0.7), ("real", 100, 0.3, 0.5)]:
            shift = 0.01 * seed
            rows += [
                _row(curve, "cars", "top1", size, cars + shift, seed),
                _row(curve, "cars", "mean_per_class", size, 0.9, seed),
                _row(curve, "pets", "top1", size, 0.9, seed),
                _row(curve, "pets", "mean_per_class", size, pets + shift, seed),
                _row(curve, DOWNSTREAM, "headline", size, (cars + pets) / 2 + shift, seed),
                _row(curve, HELD_OUT, "image_to_text_recall_at_1", size, cars / 10, seed),
            ]
    return pd.DataFrame(rows)


def test_table_1_has_each_sets_own_metric_and_their_mean(results: pd.DataFrame) -> None:
    table = downstream_table(results, {"cars": ("Cars", "top1"), "pets": ("Pets", "mean_per_class")})
    assert table.to_dict("list") == {
        "curve": ["real", "real", "sd-g2"],
        "dataset_size": [100, 200, 100],
        "Cars": [30.5, 50.5, 20.5],
        "Pets": [50.5, 70.5, 40.5],
        "average": [40.5, 60.5, 30.5],
    }


def test_the_papers_figures_stand_beside_sets_of_its_own() -> None:
    assert published_table({"digits": "digits"}) is None
    table = published_table({"pets": "Pets", "digits": "digits", "cars": "Cars"})
    assert table is not None
    assert list(table.columns) == ["source", "dataset_size", "Cars", "Pets"]  # an average of two is not the paper's
    assert table["source"].unique().tolist() == ["real", "synthetic", "mixed"]
    assert table.query("source == 'mixed'")["Pets"].tolist() == [12.0, 45.4, 67.7, 85.1, 86.4]
    whole = published_table(DOWNSTREAM_SETS)
    assert whole is not None
    assert whole.columns[-1] == "average"
    assert whole["average"].tolist()[4] == 65.7


def test_retrieval_is_in_words_and_percent(results: pd.DataFrame) -> None:
    table = retrieval_table(results)
    assert list(table.columns) == ["curve", "dataset_size", "image to text recall at 1"]
    assert table["image to text recall at 1"].tolist() == [3.0, 5.0, 2.0]
