"""Zero-shot results that others have published, to stand beside what a study measures."""

from __future__ import annotations

import functools
from pathlib import Path

import pandas as pd

from syn_ray.datasets.downstream import DOWNSTREAM, downstream_set

DATA = Path(__file__).parent / "data"

PAPER_TABLE_1 = "the paper, Table 1"
RELEASED_CLIP = "released checkpoints, measured by visinf/benchmarking-synthetic-clones"


@functools.cache
def zero_shot_reference() -> pd.DataFrame:
    """Published zero-shot results of CLIP models that were trained on synthetic, real or both images.

    Returns:
        Columns reference (where a value is from), dataset_size (captions), source (`synthetic`, `real`, `mixed`),
        eval_set, metric, value (losses in nats, accuracies as fractions). The evaluation set `average` is the paper's
        mean over its fifteen sets.
    """
    rows = _read("paper_table1.csv").melt(["dataset_size", "source"], var_name="eval_set")
    rows["metric"] = [downstream_set(name).metric if name in DOWNSTREAM else "average" for name in rows["eval_set"]]
    rows["value"] /= 100
    rows["reference"] = PAPER_TABLE_1
    columns = ["reference", "dataset_size", "source", "eval_set", "metric", "value"]
    return pd.concat([rows[columns], _released()[columns]], ignore_index=True)


def _released() -> pd.DataFrame:
    table = _read("released_clip.csv")
    table["top1"] /= 100
    rows = table.melt(["dataset_size", "source"], var_name="metric")
    return rows.assign(reference=RELEASED_CLIP, eval_set="imagenet")


def _read(name: str) -> pd.DataFrame:
    table = pd.read_csv(DATA / name, comment="#").rename(columns={"captions_millions": "dataset_size"})
    table["dataset_size"] *= 1_000_000
    return table
