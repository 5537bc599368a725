"""The tidy tables of a study, from its artifacts: `results.parquet`, `per_class.parquet`. `laws` makes the fits."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from syn_ray.core.artifact import Artifact, read_artifact
from syn_ray.core.errors import MissingResultError, UserError
from syn_ray.core.storage import Storage
from syn_ray.fit import BootstrappedLaw
from syn_ray.report.inputs import DOWNSTREAM, INTERVAL_COLUMNS, RESULT_COLUMNS
from syn_ray.study.curves import Curve
from syn_ray.study.plan import StudyPlan
from syn_ray.train.run import Run

PER_CLASS_COLUMNS = (*RESULT_COLUMNS, "class_index", "class_name")
INTEGERS = ("dataset_size", "seed", "samples_seen", "unique_images", "train_steps", "class_index")
METRICS = ("loss", "top1", "top5")
"""Of a class as well as of a set; what else an evaluation measures is of the set alone."""
SCORES = ("recognizability", "diversity")
OF_NO_TRAINING = {"objective": None, "model": None}
"""In the rows of image scores, whose `dataset_size` is the number of images scored: the first of the source."""

Row = dict[str, Any]


def load_results(path: str | Path) -> pd.DataFrame:
    """The results table of a study.

    Args:
        path: a study's directory (`.../studies/NAME`), its `results.parquet`, or any `pyarrow.fs` URI of either.

    Raises:
        UserError: there is no results table.
    """
    directory = Storage(path)
    if directory.name == "results.parquet":
        directory = directory.parent
    if not directory.exists("results.parquet"):
        raise UserError(f"'{path}' holds no results.parquet; give the directory of a study that has run")
    return read_table(directory, "results.parquet")


def read_table(directory: Storage, name: str) -> pd.DataFrame:
    """A table of a study."""
    return pd.read_parquet(io.BytesIO(directory.read_bytes(name)))


def write_table(directory: Storage, name: str, table: pd.DataFrame) -> None:
    """Replaces a table as a whole."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    directory.write_bytes(name, buffer.getvalue())


def collect(plan: StudyPlan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results and per-class results of everything that is finished.

    Raises:
        MissingResultError: nothing is.
    """
    rows, class_rows = [], []
    for curve in plan.curves:
        for row, by_class in _curve_rows(plan, curve):
            rows.append(row)
            class_rows += [row | extra for extra in by_class]
    if not rows:
        raise MissingResultError(f"study '{plan.config.name}' has no results yet; run `syn-ray run` first")
    return _frame(rows, RESULT_COLUMNS), _frame(class_rows, PER_CLASS_COLUMNS)


def _frame(rows: list[Row], columns: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(columns))
    return table.astype({name: "Int64" for name in INTEGERS if name in columns} | {"value": "float64"})


def _curve_rows(plan: StudyPlan, curve: Curve) -> Iterator[tuple[Row, list[Row]]]:
    """Each result row of a curve, with what differs in its per-class rows."""
    about = describe(plan, curve)
    scoring = plan.scoring(curve)
    scores = None if scoring is None else read_artifact(scoring.directory, scoring.fingerprint)
    if scoring is not None and scores is not None:
        for metric in SCORES:
            row = about | OF_NO_TRAINING | {"dataset_size": scoring.samples, "eval_set": "images", "metric": metric}
            values = list(enumerate(scores.result[f"{metric}_per_class"]))
            by_class = _by_class(plan.class_names, values)
            yield row | {"value": scores.result[metric], "seconds": scores.seconds}, by_class
    for run in plan.runs(curve):
        trained = read_artifact(run.directory, run.fingerprint)
        if trained is not None:
            yield from _run_rows(plan, run, trained, about)


def _run_rows(plan: StudyPlan, run: Run, trained: Artifact, about: Row) -> Iterator[tuple[Row, list[Row]]]:
    budget = {name: trained.result[name] for name in ("samples_seen", "unique_images", "epochs", "train_steps")}
    of_run = (
        about
        | budget
        | {"dataset_size": run.dataset_size, "seed": run.seed, "seconds": trained.seconds, "run": run.name}
    )
    pooled: dict[str, list[float]] = {}
    for evaluation in plan.evaluations(run):
        answer = read_artifact(evaluation.directory, evaluation.fingerprint)
        if answer is None:
            continue
        name = evaluation.eval_set
        by_class = answer.result.get("per_class", {"class_index": []})
        classes = [int(index) for index in by_class["class_index"]]
        for metric in (metric for metric, value in answer.result.items() if isinstance(value, float)):
            row = of_run | {"eval_set": name, "metric": metric, "value": answer.result[metric]}
            values = list(zip(classes, by_class[metric], strict=True)) if metric in METRICS else []
            yield row, _by_class(_class_names(plan, name), values)
        if name in plan.config.downstream:
            headline = answer.result[plan.config.zero_shot_set(name).metric]
            for metric, value in (
                {metric: answer.result[metric] for metric in METRICS} | {"headline": headline}
            ).items():
                pooled.setdefault(metric, []).append(value)
    for metric, of_sets in pooled.items():
        if len(of_sets) == len(plan.config.downstream):
            yield of_run | {"eval_set": DOWNSTREAM, "metric": metric, "value": float(np.mean(of_sets))}, []


def _class_names(plan: StudyPlan, eval_set: str) -> Sequence[str]:
    return plan.config.zero_shot_set(eval_set).class_names if plan.config.trains_clip else plan.class_names


def _by_class(class_names: Sequence[str], values: list[tuple[int, float]]) -> list[Row]:
    return [{"class_index": i, "class_name": class_names[i], "value": value} for i, value in values]


def describe(plan: StudyPlan, curve: Curve) -> Row:
    """The columns that say which curve a row belongs to; what does not apply is null."""
    row: Row = dict.fromkeys(RESULT_COLUMNS)
    row |= {"study": plan.config.name, "curve": curve.name, "source": curve.kind}
    row |= {"objective": plan.config.train.objective, "model": plan.config.train.model}
    if curve.drawn is not None:
        row |= {
            "generator": curve.generator,
            "model_id": curve.drawn.generator.model_id,
            "guidance_scale": curve.drawn.guidance_scale,
            "native_guidance": curve.drawn.native_guidance,
            "prompts": curve.prompts,
        }
    return row


def intervals_table(plan: StudyPlan, laws: Mapping[tuple[str, str], BootstrappedLaw]) -> pd.DataFrame:
    """95% intervals of single points, as the report draws them: losses from the laws' replicates, scores as scored."""
    rows = []
    for (name, eval_set), law in laws.items():
        for size in sorted(law.losses):
            _, low, high = law.loss(size)
            rows.append((name, eval_set, "loss", int(size), low, high))
    for curve in plan.curves:
        scoring = plan.scoring(curve)
        scores = None if scoring is None else read_artifact(scoring.directory, scoring.fingerprint)
        if scoring is not None and scores is not None:
            for metric in SCORES:
                low, high = scores.result[f"{metric}_interval"]
                rows.append((curve.name, "images", metric, scoring.samples, low, high))
    return pd.DataFrame(rows, columns=list(INTERVAL_COLUMNS))
