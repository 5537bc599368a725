"""From a study's files to its tables and its report."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from syn_ray.core.artifact import git_commit, package_versions, read_artifact
from syn_ray.core.config import defaults_not_from_paper
from syn_ray.core.storage import Storage
from syn_ray.generate.config import AnySource
from syn_ray.report.inputs import CLASSES_NOTE, DOWNSTREAM, HELD_OUT, IMAGES, CurveSamples, ReportInput
from syn_ray.report.zero_shot import downstream_table, published_table, retrieval_table
from syn_ray.shards.manifest import read_manifest
from syn_ray.shards.reader import read_samples
from syn_ray.study.curves import Curve
from syn_ray.study.laws import choose_forms, comparisons_table, fit_laws, fits_table, forecasts_table
from syn_ray.study.plan import StudyPlan
from syn_ray.study.prompts import prompt_uses
from syn_ray.study.results import collect, intervals_table, write_table
from syn_ray.study.status import curve_status

SAMPLES_PER_CLASS = 8
SAMPLES_OF_PAIRS = 8
PAIRS_NOTE = "Columns are captions, the same in every source."
EXAMPLE_PROMPTS = 4
POINT_INTERVAL_METHOD = (
    "95%: losses as the laws (test images and training noise), recognizability and diversity by a bootstrap over images"
)
INTERVAL_METHOD = (
    "95%: bootstrap over the test images (the same draw for all runs), with the training noise of the seeds added; "
    "where a size has one seed, the scatter of the runs around the line stands for that noise; forms other than the "
    "line: by the scatter of the runs around them"
)


@dataclasses.dataclass(frozen=True)
class Tables:
    """What a report is made from."""

    results: pd.DataFrame
    fits: pd.DataFrame
    intervals: pd.DataFrame
    comparisons: pd.DataFrame
    forecasts: pd.DataFrame


def write_tables(plan: StudyPlan) -> Tables:
    """Writes `results.parquet`, `per_class.parquet` and `fits.parquet` from what is finished."""
    results, per_class = collect(plan)
    laws = fit_laws(plan)
    choices = choose_forms(plan, results, laws)
    fits = fits_table(plan, laws, choices)
    write_table(plan.root, "results.parquet", results)
    write_table(plan.root, "per_class.parquet", per_class)
    write_table(plan.root, "fits.parquet", fits)
    return Tables(results, fits, intervals_table(plan, laws), comparisons_table(laws), forecasts_table(laws, choices))


def write_report(plan: StudyPlan, tables: Tables) -> Storage:
    """Writes `report/index.html` and its figures; returns the report's directory."""
    from syn_ray.report.page import build_report  # loads the drawing library

    whole = whole_rows(tables.results)
    shown = [*plan.config.evaluation_sets, DOWNSTREAM]
    results = whole[whole["eval_set"].isin([*shown, IMAGES])]
    curves = set(results["curve"])
    report = ReportInput(
        study=plan.config.name,
        question=plan.config.question,
        results=results,
        fits=tables.fits[tables.fits["curve"].isin(curves) & tables.fits["eval_set"].isin(shown)],
        interval_method=INTERVAL_METHOD,
        intervals=tables.intervals,
        point_interval_method=POINT_INTERVAL_METHOD,
        reference_size=plan.config.reference_size,
        fit_window=plan.config.fit_window,
        comparisons=tables.comparisons,
        forecasts=tables.forecasts,
        eval_sets=[name for name in shown if name in set(results["eval_set"])],
        tables=_clip_tables(plan, whole),
        samples=[samples for samples in _samples(plan) if samples.curve in curves],
        samples_note=PAIRS_NOTE if plan.config.trains_clip else CLASSES_NOTE,
        notes=_notes(plan),
        provenance=_provenance(plan, tables.results),
        not_run=_not_run(plan),
    )
    directory = plan.root / "report"
    with tempfile.TemporaryDirectory() as folder:
        build_report(report, Path(folder))
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            directory.write_bytes(path.relative_to(folder).as_posix(), path.read_bytes())
    return directory


def whole_rows(results: pd.DataFrame) -> pd.DataFrame:
    """The rows that a report can show beside each other, where a study is not finished.

    Those of runs that are judged on every evaluation set on which any run is, and the scores of the curves of these.
    Where there is none, everything: the report then says what is missing.
    """
    trained = results.dropna(subset=["run"])
    judged = trained.groupby("run")["eval_set"].nunique()
    whole = set(judged[judged == trained["eval_set"].nunique()].index)
    curves = set(trained.loc[trained["run"].isin(whole), "curve"])
    scores = results["run"].isna() & results["curve"].isin(curves)
    return results[results["run"].isin(whole) | scores].reset_index(drop=True) if whole else results


def _clip_tables(plan: StudyPlan, results: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Table 1 and retrieval, where the study has them."""
    tables = []
    sets = {name: plan.config.zero_shot_set(name) for name in plan.config.downstream}
    if (results["eval_set"] == DOWNSTREAM).any():
        caption = (
            "Zero-shot accuracy on the downstream sets, percent (mean over seeds); of each set the metric that is usual"
        )
        frame = downstream_table(results, {name: (told.title, told.metric) for name, told in sets.items()})
        tables.append((DOWNSTREAM, caption, frame))
        published = published_table({name: told.title for name, told in sets.items()})
        if published is not None:
            tables.append(
                ("published", "The paper's own figures for these sets: ViT-B/16, Table 1, percent", published)
            )
    if (results["eval_set"] == HELD_OUT).any():
        tables.append(
            ("retrieval", "Retrieval among held-out pairs, percent (mean over seeds)", retrieval_table(results))
        )
    return tables


def _samples(plan: StudyPlan) -> list[CurveSamples]:
    return [samples for curve in plan.curves if (samples := _curve_samples(plan, curve)) is not None]


def _curve_samples(plan: StudyPlan, curve: Curve) -> CurveSamples | None:
    """The first images of a curve: by class; of pairs in their order, of a mixed curve a row of each half."""
    tables = [_first_samples(plan, part, curve) for part in curve.parts]
    if not all(tables):
        return None
    texts = [row["text"] for row in tables[0][:EXAMPLE_PROMPTS] if row["text"]] if curve.generator else []
    if not plan.config.trains_clip:
        names = plan.class_names[:10]
        rows = [[row["image"]["bytes"] for row in tables[0] if row["label"] == label] for label in range(len(names))]
        return CurveSamples(curve.name, names, [row[:SAMPLES_PER_CLASS] for row in rows], texts)
    names = ["real", "synthetic"] if len(tables) > 1 else [curve.kind]
    rows = [[row["image"]["bytes"] for row in table[:SAMPLES_OF_PAIRS]] for table in tables]
    return CurveSamples(curve.name, names, rows, texts)


def _first_samples(plan: StudyPlan, source: AnySource, curve: Curve) -> list[dict[str, Any]]:
    directory = plan.source_directory(source)
    manifest = read_manifest(directory)
    shown = SAMPLES_OF_PAIRS if plan.config.trains_clip else SAMPLES_PER_CLASS * len(plan.class_names)
    wanted = min(shown, plan.images_needed(curve))
    there = manifest.available(wanted) if manifest else 0
    if manifest is None or not there:
        return []
    return list(read_samples(directory, manifest, there, ["image", "label", "text"]).to_pylist())


def _notes(plan: StudyPlan) -> list[str]:
    stand_ins = [f"train.{line}" for line in defaults_not_from_paper(plan.config.train)]
    if plan.config.score is not None:
        stand_ins += [f"score.{line}" for line in defaults_not_from_paper(plan.config.score)]
    for name, generator in plan.config.generators.items():
        stand_ins += [f"generators.{name}.{line}" for line in defaults_not_from_paper(generator)]
    for curves in plan.config.curves:
        stand_ins += [f"curves.{line}" for line in defaults_not_from_paper(curves)]
    for use in prompt_uses(plan):
        stand_ins += [f"prompts.{use.name}.{line}" for line in defaults_not_from_paper(use.config)]
    if "long_prompts" not in plan.config.model_fields_set:
        stand_ins.append(f"long_prompts={plan.config.long_prompts}")
    notes = list(plan.config.notes)
    indexed = plan.pairs_in_words()
    if indexed is not None:
        notes.append(f"{indexed[0].upper()}{indexed[1:]}.")
    if plan.config.masked_sets:
        notes.append(f"Judged among the classes that occur in them: {', '.join(plan.config.masked_sets)}.")
    if stand_ins:
        notes.append(f"Defaults that stand in for values the paper does not give: {', '.join(stand_ins)}.")
    return notes


def _provenance(plan: StudyPlan, results: pd.DataFrame) -> dict[str, str]:
    images = [read_artifact(plan.source_directory(request.source)) for request in plan.image_requests]
    trained = results.dropna(subset=["run"]).drop_duplicates("run")["seconds"].sum()
    facts = {
        "written": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine of the driver": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
        "images of the curves": f"{sum(a.result['rows'] for a in images if a):,}",
        "seconds making them": f"{sum(a.seconds for a in images if a):.0f}",
        "training runs": f"{results['run'].nunique()}",
        "seconds training (sum over runs)": f"{trained:.0f}",
        "git commit": git_commit() or "unknown",
    }
    return facts | package_versions() | {"python": platform.python_version()}


def _not_run(plan: StudyPlan) -> list[str]:
    statuses = [curve_status(plan, curve) for curve in plan.curves]
    return [
        f"{s.curve.name}: {s.runs_done}/{s.runs} trainings and {s.evaluations_done}/{s.evaluations} evaluations done"
        f"{', images not scored' if s.scored is False else ''}"
        for s in statuses
        if not s.complete
    ]
