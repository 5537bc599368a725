"""Whole studies on Ray: from nothing to the report, again, and after being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm

from syn_ray.core.storage import Storage
from syn_ray.report.inputs import FIT_COLUMNS, RESULT_COLUMNS
from syn_ray.shards.verify import verify
from syn_ray.study import load_results
from syn_ray.study.runner import StudyResult, open_study

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

TINY = (
    "dataset_sizes=[16,32,64]",
    "fit_window=[16,64]",
    "reference_size=64",
    "score.images_per_class=4",
    "generators.sd.num_inference_steps=4",
    "curves.1.guidance_scale=4",
    "train.steps={base_steps: 30, reference_size: 16, steps_per_doubling: 10}",
    "evaluation_sets={v2: {kind: embedded, name: v2}, adversarial: {kind: embedded, name: adversarial}}",
)
"""Makes quickstart a study of seconds: two curves, six trainings, two evaluation sets."""


def _command(storage, *more):
    changes = [part for change in (*TINY, *more) for part in ("--set", change)]
    return [sys.executable, "-m", "syn_ray.cli", "run", "quickstart", "--storage", str(storage), *changes]


def _run(storage, *more):
    done = subprocess.run(_command(storage, *more), capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """A finished tiny study."""
    folder = tmp_path_factory.mktemp("study")
    lines = _run(folder)
    assert lines[-1] == str(folder / "studies/quickstart/report/index.html")
    return folder


def _files(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def _shard_sums(folder):
    return {
        f"{path.parent.name}/{shard['name']}": shard["sha256"]
        for path in sorted(Path(folder, "images").glob("*/manifest.json"))
        for shard in json.loads(path.read_text())["shards"]
    }


def test_tables_hold_every_number(storage):
    results = load_results(storage / "studies/quickstart")
    assert tuple(results.columns) == RESULT_COLUMNS
    trained = results.dropna(subset=["run"])
    assert trained["run"].nunique() == 6
    assert len(trained) == 6 * 2 * 3  # runs, evaluation sets, metrics
    assert trained["value"].between(0, 10).all()
    assert sorted(results.loc[results.eval_set == "images", "metric"].unique()) == ["diversity", "recognizability"]
    steps = trained.groupby("dataset_size")["train_steps"].unique()
    assert {size: list(values) for size, values in steps.items()} == {16: [30], 32: [40], 64: [50]}
    fits = pd.read_parquet(storage / "studies/quickstart/fits.parquet")
    assert tuple(fits.columns) == FIT_COLUMNS
    assert len(fits) == 2 * 2
    assert ((fits.low <= fits.scaling_ability) & (fits.scaling_ability <= fits.high)).all()
    per_class = pd.read_parquet(storage / "studies/quickstart/per_class.parquet")
    loss = per_class[(per_class.metric == "loss") & (per_class.eval_set == "v2")]
    assert loss.groupby("run").size().tolist() == [10] * 6


def test_a_result_is_what_the_saved_model_says(storage):
    """A number of the table, measured again without the project's evaluation."""
    import torch

    from syn_ray.shards.decode import decode_images
    from syn_ray.shards.reader import open_source, read_samples

    results = load_results(storage / "studies/quickstart")
    row = results[(results.metric == "loss") & (results.eval_set == "adversarial")].iloc[-1]
    model = timm.create_model(f"local-dir:{storage}/studies/quickstart/runs/{row.run}", pretrained=True).eval()
    directory = Storage(next(Path(storage, "images").glob("adversarial-*")))
    manifest = open_source(directory)
    table = read_samples(directory, manifest, manifest.rows)
    images = (decode_images(table, 32).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(model(images), torch.tensor(table["label"].to_pylist()))
    assert row.value == pytest.approx(float(loss), rel=1e-4)


def test_tune_and_report_can_be_looked_at(storage):
    plan = open_study("quickstart", storage, TINY)
    grid = StudyResult(plan).result_grid
    frame = grid.get_dataframe()
    assert sorted(frame["config/curve"]) == ["real", "sd-captions-g4"]
    assert frame["dataset_size"].tolist() == [64, 64]
    assert np.isfinite(frame["v2/loss"]).all()
    assert len(grid[0].metrics_dataframe) == 3  # one report for each dataset size
    page = (storage / "studies/quickstart/report/index.html").read_text()
    assert "sd-captions-g4" in page
    assert verify(Storage(storage)).problems == []
    assert not (storage / "studies/quickstart/running.json").exists()  # `status` says that nothing runs


def test_a_second_run_redoes_nothing(storage):
    before = _files(storage)
    started = time.monotonic()
    _run(storage)
    assert time.monotonic() - started < 60  # no Ray is started; the tables and the report are written anew
    rewritten = {name for name, when in _files(storage).items() if before.get(name) != when}
    assert {name.split("/")[2] for name in rewritten} <= {
        "study.yaml",
        "results.parquet",
        "per_class.parquet",
        "fits.parquet",
        "report",
    }


def test_a_flipped_byte_is_found_and_the_shard_made_again(storage):
    (shard,) = Path(storage, "images").glob("stable-diffusion-captions-g4-*/shard-00000016.parquet")
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    shard.write_bytes(bytes(data))
    runs = _files(storage / "studies/quickstart/runs")
    (problem,) = verify(Storage(storage)).problems
    assert (problem.shard, problem.sample_index) == ("shard-00000016.parquet", 16)
    _run(storage)
    assert verify(Storage(storage)).problems == []
    assert _files(storage / "studies/quickstart/runs") == runs


def _kill_when(storage, condition):
    """Starts the study, and kills its driver with SIGKILL as soon as the condition holds."""
    process = subprocess.Popen(
        _command(storage), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_study_killed_while_it_generates_and_while_it_trains_ends_the_same(storage, tmp_path):
    generating = lambda: any(tmp_path.glob("images/stable-diffusion-*/shard-*.parquet"))  # noqa: E731
    training = lambda: any(tmp_path.glob("studies/quickstart/runs/*/artifact.json"))  # noqa: E731
    _kill_when(tmp_path, generating)
    assert (tmp_path / "studies/quickstart/running.json").exists()  # `status` says that it was killed
    _kill_when(tmp_path, training)
    finished = {p: p.stat().st_mtime_ns for p in tmp_path.glob("studies/quickstart/runs/*/artifact.json")}
    _run(tmp_path)
    assert _shard_sums(tmp_path) == _shard_sums(storage)
    assert {p: p.stat().st_mtime_ns for p in finished} == finished  # no finished run was trained again
    columns = ["curve", "dataset_size", "seed", "eval_set", "metric", "value"]
    ours, undisturbed = (load_results(folder / "studies/quickstart")[columns] for folder in (tmp_path, storage))
    pd.testing.assert_frame_equal(ours, undisturbed)
    assert verify(Storage(tmp_path)).problems == []
