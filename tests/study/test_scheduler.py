"""A Tune scheduler decides which curves are worth their next dataset size."""

import json

import pytest
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from syn_ray.core.resources import Resources
from syn_ray.core.storage import Storage
from syn_ray.study import grid, run_study
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan

TINY = (
    "dataset_sizes=[16,32,64]",
    "fit_window=[16,64]",
    "reference_size=64",
    "score=null",
    "curves=[{source: real}]",
    "train.steps={base_steps: 10, reference_size: 16, steps_per_doubling: 0}",
    "evaluation_sets={adversarial: {kind: embedded, name: adversarial}}",
)


class _StopAtFirstSize(FIFOScheduler):  # type: ignore[misc]  # Ray is read as Any
    """Ends a curve after its first size."""

    def on_trial_result(self, tune_controller, trial, result):  # noqa: ARG002
        return TrialScheduler.STOP


@pytest.mark.parametrize("by_size", [True, False])
def test_with_a_scheduler_each_size_is_made_and_told_before_the_next(by_size, monkeypatch, tmp_path):
    plan = StudyPlan(load_study("quickstart", TINY), Storage(tmp_path))
    done: list[object] = []

    def made(plan, curve, sizes, resources, coordinator):
        done.append(sizes)
        return [{"dataset_size": size} for size in sizes]

    monkeypatch.setattr(grid, "_run_rung", made)
    monkeypatch.setattr(tune, "report", lambda result: done.append(result["dataset_size"]))
    grid._run_curve({"curve": "real"}, plan, Resources(), None, by_size=by_size)
    assert done == ([(16,), 16, (32,), 32, (64,), 64] if by_size else [(16, 32, 64), 16, 32, 64])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
# Tune's logger leaves a trial's result.json open when the trial is stopped.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stopped_curve_pays_for_no_further_size(ray_cluster, tmp_path):
    study = run_study("quickstart", tmp_path, overrides=TINY, scheduler=_StopAtFirstSize())
    (trial,) = study.result_grid
    assert trial.metrics_dataframe["dataset_size"].tolist() == [16]
    (manifest,) = tmp_path.glob("images/real-*/manifest.json")
    images = sum(shard["rows"] for shard in json.loads(manifest.read_text())["shards"])
    assert images == 16  # the 64 of the other sizes were never made
    trained = study.results.dropna(subset=["run"])
    assert sorted(trained["dataset_size"].unique()) == [16]
    assert (tmp_path / "studies/quickstart/report/index.html").exists()
