"""Ray Tune over the grid: a trial is a curve and reports one result for each dataset size.

A trial holds next to no resources. The work it asks for takes them: Ray Data actors for images, scores and evaluation,
Ray Train workers for training; so trials cannot starve each other of what the work needs.
"""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from syn_ray.core.resources import Resources
from syn_ray.evaluate.stage import evaluate_runs
from syn_ray.study.coordinator import training_reporter
from syn_ray.study.curves import Curve
from syn_ray.study.environment import set_environment
from syn_ray.study.plan import StudyPlan

TRIAL_RESOURCES = {"node:__internal_head__": 0.001}
MOST_TRIALS = 32


def run_grid(
    plan: StudyPlan, resources: Resources, coordinator: Any, scheduler: TrialScheduler | None = None
) -> tune.ResultGrid:
    """Runs every curve of a study.

    Args:
        plan: the study.
        resources: how it is computed.
        coordinator: makes and scores the sources.
        scheduler: may stop curves early, by the metrics `loss` or `top1` on the first evaluation set over
            `dataset_size`. With one, a curve's images are made size by size; without, all at once.
    """
    grids = plan.root / "tune"
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(
                _run_curve, plan=plan, resources=resources, coordinator=coordinator, by_size=scheduler is not None
            ),
            TRIAL_RESOURCES,
        ),
        param_space={"curve": tune.grid_search([curve.name for curve in plan.curves])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=most_trials(resources, len(plan.curves)),
            scheduler=scheduler,
            reuse_actors=True,  # the next curve finds torch imported
            trial_name_creator=lambda trial: str(trial.config["curve"]),
            trial_dirname_creator=lambda trial: str(trial.config["curve"]),
        ),
        run_config=tune.RunConfig(name=f"grid-{time.strftime('%Y%m%dT%H%M%S')}", storage_path=grids.display, verbose=0),
    )
    with contextlib.redirect_stdout(io.StringIO()):  # Tune prints a box even when told to be quiet
        return tuner.fit()


def most_trials(resources: Resources, curves: int) -> int:
    """Curves worked on at a time: as said, or as many as have room to train."""
    if resources.max_concurrent_trials != "auto":
        return resources.max_concurrent_trials
    return min(resources.train.groups(ray.cluster_resources()), curves, MOST_TRIALS)


def _run_curve(config: dict[str, Any], plan: StudyPlan, resources: Resources, coordinator: Any, by_size: bool) -> None:
    """A trial: images, scores, training, evaluation; one report for each dataset size."""
    set_environment()  # Ray Train hands the trial's own on to its workers, also on a Ray that the user has started
    curve = next(curve for curve in plan.curves if curve.name == config["curve"])
    sizes = curve.dataset_sizes
    for rung in [(size,) for size in sizes] if by_size else [sizes]:
        for result in _run_rung(plan, curve, rung, resources, coordinator):
            tune.report(result)


def _run_rung(
    plan: StudyPlan, curve: Curve, sizes: tuple[int, ...], resources: Resources, coordinator: Any
) -> list[dict[str, Any]]:
    from syn_ray.train.stage import train_runs  # loads torch: in the trials alone

    def doing(what: str) -> None:
        coordinator.set_doing.remote(curve.name, what)

    scoring = plan.scoring(curve)
    doing("images")
    wanted = sizes[-1] if scoring is None else max(sizes[-1], scoring.samples)
    made = ray.get([coordinator.prepare.remote(part, wanted) for part in curve.parts])
    scores: dict[str, float] = {}
    if scoring is not None:
        doing("scores")
        result = ray.get(coordinator.score.remote(scoring)).result
        scores = {name: result[name] for name in ("recognizability", "diversity")}
    runs = plan.runs(curve, sizes)
    doing("training")
    trained = train_runs(runs, resources.train, plan.root / "train", training_reporter(coordinator))
    doing("evaluation")
    ray.get(coordinator.prepare_evaluation.remote())
    evaluations = [evaluation for run in runs for evaluation in plan.evaluations(run)]
    judged = {
        e.directory.uri: a.result
        for e, a in zip(evaluations, evaluate_runs(evaluations, resources.evaluate), strict=True)
    }
    doing("done")
    shared = scores | {"images": sum(images.result["rows"] for images in made)}
    return [_report(plan, size, runs, trained, judged) | shared for size in sizes]


def _report(plan: StudyPlan, size: int, runs: list[Any], trained: list[Any], judged: dict[str, Any]) -> dict[str, Any]:
    """The means over seeds at one dataset size; plain names are of the first evaluation set."""
    mine = [run for run in runs if run.dataset_size == size]
    budget = next(a.result for run, a in zip(runs, trained, strict=True) if run.dataset_size == size)
    result: dict[str, Any] = {name: budget[name] for name in ("dataset_size", "train_steps", "samples_seen", "epochs")}
    for eval_set in plan.evaluation_sources:
        answers = [judged[e.directory.uri] for run in mine for e in plan.evaluations(run) if e.eval_set == eval_set]
        for metric in (name for name, value in answers[0].items() if isinstance(value, float)):
            result[f"{eval_set}/{metric}"] = float(np.mean([answer[metric] for answer in answers]))
    first = next(iter(plan.evaluation_sources))
    return result | {metric: result[f"{first}/{metric}"] for metric in ("loss", "top1", "top5")}
