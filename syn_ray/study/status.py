"""How far a study is, read from its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.table import Column, Table

from syn_ray.core.artifact import read_artifact
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.generate.config import AnySource
from syn_ray.shards.manifest import drop_damaged, read_manifest
from syn_ray.study.curves import Curve
from syn_ray.study.plan import StudyPlan


@dataclass(frozen=True)
class CurveStatus:
    """How far a curve is."""

    curve: Curve
    images_done: int
    images_needed: int
    scored: bool | None
    """None: no scores are wanted."""
    runs_done: int
    runs: int
    evaluations_done: int
    evaluations: int
    steps_missing: int

    @property
    def complete(self) -> bool:
        done = (self.images_done, self.runs_done, self.evaluations_done)
        return self.scored is not False and done == (self.images_needed, self.runs, self.evaluations)


def curve_status(plan: StudyPlan, curve: Curve) -> CurveStatus:
    """Reads a curve's status from its files."""
    manifests = [read_manifest(plan.source_directory(part), part.fingerprint) for part in curve.parts]
    needed = plan.images_needed(curve)
    runs = plan.runs(curve)
    missing = [run for run in runs if read_artifact(run.directory, run.fingerprint) is None]
    done = [run for run in runs if run not in missing]
    judged = [e for run in done for e in plan.evaluations(run) if read_artifact(e.directory, e.fingerprint) is not None]
    scoring = plan.scoring(curve)
    return CurveStatus(
        curve=curve,
        images_done=sum(min(manifest.rows if manifest else 0, needed) for manifest in manifests),
        images_needed=needed * len(manifests),
        scored=None if scoring is None else read_artifact(scoring.directory, scoring.fingerprint) is not None,
        runs_done=len(done),
        runs=len(runs),
        evaluations_done=len(judged),
        evaluations=len(runs) * len(plan.evaluation_sources),
        steps_missing=sum(plan.train_steps(run) for run in missing),
    )


def sources_intact(plan: StudyPlan, resources: GenerateResources) -> bool:
    """Whether every source of a study, evaluation sets included, holds what is asked of it, undamaged."""
    wanted: list[tuple[AnySource, int | None]] = [
        (part, plan.images_needed(curve)) for curve in plan.curves for part in curve.parts
    ]
    wanted += [(source, None) for source in plan.evaluation_sources.values()]
    return all(_intact(plan.source_directory(source), source, rows, resources) for source, rows in wanted)


def _intact(directory: Storage, source: AnySource, rows: int | None, resources: GenerateResources) -> bool:
    """Whether a source holds `rows` samples (None: all), by its own record: its images may be on another machine."""
    artifact = read_artifact(directory, source.fingerprint)
    manifest = read_manifest(directory, source.fingerprint)
    if artifact is None or manifest is None or manifest.missing(artifact.result["rows"] if rows is None else rows):
        return False
    return drop_damaged(directory, manifest, resources.check_bytes) == manifest


def describe_status(plan: StudyPlan, title: str, doing: Mapping[str, str]) -> Iterator[Table | str]:
    """What `syn-ray plan` and `syn-ray status` print: a table of the curves, and what holds for all of them.

    Args:
        plan: the study.
        title: of the table.
        doing: by a curve's name what a run does for it at this moment; empty where none runs.
    """
    columns = ["images", "scored", "trainings", "steps to do", "evaluations", *(["now"] if doing else [])]
    table = Table(Column("curve", overflow="fold"), *columns, title=f"{plan.config.name}: {title}")
    for status in [curve_status(plan, curve) for curve in plan.curves]:
        table.add_row(*_cells(status), *([doing.get(status.curve.name, "")] if doing else []))
    yield table
    sizes = ", ".join(str(size) for size in plan.config.dataset_sizes)
    yield f"dataset sizes {sizes}; seeds {len(plan.config.seeds)}; evaluation sets {', '.join(plan.evaluation_sources)}"
    if plan.config.masked_sets:
        yield f"judged among the classes that occur in them: {', '.join(plan.config.masked_sets)}"
    indexed = plan.pairs_in_words()
    if indexed is not None:
        yield indexed
    yield f"storage {plan.storage.display}"


def _cells(status: CurveStatus) -> list[str]:
    return [
        status.curve.name,
        f"{status.images_done}/{status.images_needed}",
        "off" if status.scored is None else "yes" if status.scored else "no",
        f"{status.runs_done}/{status.runs}",
        str(status.steps_missing),
        f"{status.evaluations_done}/{status.evaluations}",
    ]
