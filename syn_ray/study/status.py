"""How far a study is, read from its files."""

from __future__ import annotations

from dataclasses import dataclass

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
