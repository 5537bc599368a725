"""Runs a study, whole or one stage of it. What is finished is found in the files and not done again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich.console import Console

from syn_ray.core.errors import MissingResultError, SynRayError
from syn_ray.core.resources import Resources
from syn_ray.core.storage import Storage
from syn_ray.study.changes import FILE, check_changes
from syn_ray.study.config import StudyConfig
from syn_ray.study.environment import set_environment
from syn_ray.study.heartbeat import only_driver
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.status import curve_status, sources_intact

if TYPE_CHECKING:
    import pandas as pd
    from ray.tune import ResultGrid
    from ray.tune.schedulers import TrialScheduler

DEFAULT_STORAGE = "./syn_ray_results"


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """A finished study."""

    plan: StudyPlan

    @functools.cached_property
    def results(self) -> pd.DataFrame:
        """One row for each measured number."""
        from syn_ray.study.results import read_table

        return read_table(self.plan.root, "results.parquet")

    @functools.cached_property
    def fits(self) -> pd.DataFrame:
        """One row for each curve and evaluation set."""
        from syn_ray.study.results import read_table

        return read_table(self.plan.root, "fits.parquet")

    @property
    def report(self) -> str:
        """The path of the report."""
        return (self.plan.root / "report" / "index.html").display

    @functools.cached_property
    def result_grid(self) -> ResultGrid:
        """Tune's own view of the newest grid: a trial is a curve, a reported result a dataset size.

        Raises:
            MissingResultError: no grid was run in this storage.
        """
        from ray.tune import ExperimentAnalysis, ResultGrid

        grids = (self.plan.root / "tune").directories()
        if not grids:
            raise MissingResultError(
                f"study '{self.plan.config.name}' has no Tune grid in '{self.plan.storage.display}'"
            )
        return ResultGrid(ExperimentAnalysis((self.plan.root / "tune" / grids[-1]).display))


def run_study(
    study: str | StudyConfig,
    storage: str | Path = DEFAULT_STORAGE,
    *,
    overrides: Sequence[str] = (),
    resources: Resources | None = None,
    scheduler: TrialScheduler | None = None,
    console: Console | None = None,
) -> StudyResult:
    """Runs a study to its report; what is finished is kept.

    Args:
        study: a built-in name, a path to a YAML file, or a configuration.
        storage: where results go: a local path or any `pyarrow.fs` URI.
        overrides: `a.b=c` changes to the study, as `--set`.
        resources: how it is computed.
        scheduler: a Tune scheduler that may stop curves early (metric over `dataset_size`).
        console: where progress is shown.

    Raises:
        UserError: the study, the storage or a directory in it is wrong.
        SynRayError: a stage failed; run again to continue. What is finished is in the tables and the report. Or
            another process runs the study.
    """
    plan = open_study(study, storage, overrides)
    resources, console = resources or Resources(), console or Console()
    if not sources_intact(plan, resources.generate) or not all(
        curve_status(plan, curve).complete for curve in plan.curves
    ):
        say = functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)
        with only_driver(plan.root, say):
            set_environment()
            from syn_ray.study.session import run_curves  # loads Ray and torch

            plan.storage.delete_partials()
            try:
                run_curves(plan, resources, scheduler, console)
            except SynRayError:
                with contextlib.suppress(SynRayError):  # the first error is the one to be told
                    publish(plan)
                    say(f"what is finished: {StudyResult(plan).report}")
                raise
    publish(plan)
    return StudyResult(plan)


def publish(plan: StudyPlan) -> None:
    """Writes tables and report from what is finished."""
    from syn_ray.study.publish import write_report, write_tables  # loads scipy and the drawing library

    write_report(plan, write_tables(plan))


def open_study(
    study: str | StudyConfig, storage: str | Path, overrides: Sequence[str] = (), *, makes_images: bool = True
) -> StudyPlan:
    """A study in a storage that can be written, with its resolved file there.

    Args:
        study: as in `run_study`.
        storage: as in `run_study`.
        overrides: as in `run_study`.
        makes_images: False where only results are looked at; the real images need not be on this machine then.

    Raises:
        UserError: the study or the storage is wrong, or finished results of the study there would be left out.
    """
    config = study if isinstance(study, StudyConfig) else load_study(study, overrides)
    plan = StudyPlan(config, Storage(storage))
    plan.check_prompts()
    if makes_images:
        plan.check_images(unchanged=True)
        plan.check_sizes()
    plan.storage.check_writable()
    check_changes(plan)
    write_study_file(plan)
    return plan


def write_study_file(plan: StudyPlan) -> None:
    """The study as it was understood, every default filled in."""
    text = yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    plan.root.write_bytes(FILE, text.encode())
