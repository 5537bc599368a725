"""Tables of CLIP: accuracy on each downstream set, as in the paper's Table 1, and retrieval among held-out pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from syn_ray.datasets.reference import PAPER_TABLE_1, zero_shot_reference
from syn_ray.report.inputs import DOWNSTREAM, HELD_OUT, list_curves

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = ["curve", "dataset_size"]


def downstream_table(results: pd.DataFrame, metrics: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """One row per curve and dataset size: percent on each set, mean over seeds, and the mean over the sets.

    Args:
        results: the results table of a study.
        metrics: title and metric of each downstream set, by its name.
    """
    columns = {name: results[_is(results, name, metric)] for name, (_, metric) in metrics.items()}
    columns[DOWNSTREAM] = results[_is(results, DOWNSTREAM, "headline")]
    titles = {name: title for name, (title, _) in metrics.items()} | {DOWNSTREAM: "average"}
    return _wide(results, {titles[name]: 100 * rows.groupby(PLACE)["value"].mean() for name, rows in columns.items()})


def published_table(titles: Mapping[str, str]) -> pd.DataFrame | None:
    """The paper's Table 1 for a study's sets, in percent; with their average where the study has all fifteen.

    Args:
        titles: of each downstream set, by its name.

    Returns:
        One row per source and dataset size; None where the study has none of the paper's sets.
    """
    published = zero_shot_reference()
    paper = published[published["reference"] == PAPER_TABLE_1]
    sets = [name for name in paper["eval_set"].unique() if name in titles]
    if not sets:
        return None
    wide = (100 * paper.pivot(index=["source", "dataset_size"], columns="eval_set", values="value")).round(1)
    whole = len(sets) == len(wide.columns) - 1
    table = wide[[*sets, "average"] if whole else sets].rename(columns=dict(titles))
    return table.loc[["real", "synthetic", "mixed"]].reset_index().rename_axis(columns=None)


def retrieval_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row per curve and dataset size: percent recalled, mean over seeds."""
    rows = results[results["eval_set"] == HELD_OUT]
    named = {
        str(name).replace("_", " "): 100 * group.groupby(PLACE)["value"].mean()
        for name, group in rows.groupby("metric", sort=False)
    }
    return _wide(results, named)


def _is(results: pd.DataFrame, eval_set: str, metric: str) -> pd.Series[bool]:
    return (results["eval_set"] == eval_set) & (results["metric"] == metric)


def _wide(results: pd.DataFrame, columns: Mapping[str, pd.Series[float]]) -> pd.DataFrame:
    order = {name: place for place, name in enumerate(list_curves(results)["curve"])}
    table = pd.DataFrame(columns).round(1).reset_index()
    place = table.assign(order=table["curve"].map(order)).sort_values(["order", "dataset_size"]).index
    return table.loc[place].reset_index(drop=True)
