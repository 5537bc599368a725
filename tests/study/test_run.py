"""A whole study on Ray: killed twice, finished by a job of a cluster, and run again."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import timm

from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.embedded import ASSETS
from syn_ray.generate.config import directory_name
from syn_ray.report.inputs import FIT_COLUMNS, RESULT_COLUMNS
from syn_ray.shards.reader import open_source, read_samples, read_shard
from syn_ray.shards.verify import verify
from syn_ray.study import load_results
from syn_ray.study.runner import StudyResult, open_study
from syn_ray.study.status import sources_intact

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

TINY = (
    "dataset_sizes=[16,32,64]",
    "fit_window=[16,64]",
    "reference_size=64",
    "score.images_per_class=4",
    "generators.sd.num_inference_steps=4",
    "curves=[{source: synthetic, generator: sd, prompts: captions, guidance_scale: 4}]",
    "train.steps={base_steps: 10, reference_size: 16, steps_per_doubling: 5}",
)
"""Makes quickstart a study of seconds: one curve, three trainings."""

RESOURCES = "generate: {max_actors: 1, shard_size: 8, batch_size: 8}"
"""Eight shards of one actor: to start another takes longer than to draw these few images."""


def _changes(storage):
    """With two evaluation sets, one of them in a file beside the storage."""
    few = storage.with_name("garments.parquet")
    if not few.exists():
        (shard,) = (ASSETS / "images/v2").glob("*.parquet")
        pq.write_table(pq.read_table(shard, columns=["image", "label"]).slice(0, 60), few)
    adversarial = "adversarial: {kind: embedded, name: adversarial}"
    return (*TINY, f"evaluation_sets={{garments: {{kind: parquet, path: {few}, name: garments}}, {adversarial}}}")


def _arguments(storage):
    resources = storage.with_name("resources.yaml")
    resources.write_text(RESOURCES)
    changes = [part for change in _changes(storage) for part in ("--set", change)]
    return ["quickstart", "--storage", str(storage), *changes, "--resources", str(resources)]


def _command(storage):
    return [sys.executable, "-m", "syn_ray.cli", "run", *_arguments(storage)]


def _kill_when(storage, condition):
    """Starts the study, and kills its driver with SIGKILL as soon as the condition holds."""
    errors = storage.with_name("stderr")
    with errors.open("w") as stderr:
        process = subprocess.Popen(_command(storage), stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, f"the study ended before it could be killed: {errors.read_text()}"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A tiny study, killed while it generated, damaged, and killed again while it trained.

    With what was trained at the second kill: artifacts, and when they were written.
    """
    folder = tmp_path_factory.mktemp("study") / "results"
    runs = folder / "studies/quickstart/runs"
    _kill_when(folder, lambda: _listed(folder))
    assert (folder / "studies/quickstart/running.json").exists()  # `status` says that it was killed
    assert not any(folder.glob("images/stable-diffusion-*/artifact.json"))
    _flip_a_byte(folder)
    _kill_when(folder, lambda: any(runs.glob("*/artifact.json")))
    assert verify(Storage(folder)).problems == []
    return folder, {p: p.stat().st_mtime_ns for p in runs.glob("*/artifact.json")}


@pytest.fixture(scope="module")
def storage(killed, submit_job):
    """The same study, finished by a job of a cluster."""
    folder, _ = killed
    done = submit_job(*_arguments(folder))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert str(folder / "studies/quickstart/report/index.html") in done.stdout
    return folder


def _listed(folder):
    """The finished shards, as the manifest of the images has them."""
    return [
        manifest.with_name(shard["name"])
        for manifest in folder.glob("images/stable-diffusion-*/manifest.json")
        for shard in json.loads(manifest.read_text())["shards"]
    ]


def _flip_a_byte(folder):
    """In the first image of a finished shard, where `verify` finds it."""
    shard = _listed(folder)[0]
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    shard.write_bytes(bytes(data))
    (problem,) = verify(Storage(folder)).problems
    assert (problem.shard, problem.sample_index) == (shard.name, int(shard.stem.split("-")[1]))


def _files(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if p.is_file()}


def test_no_finished_run_was_trained_again(killed, storage):
    _, finished = killed
    assert finished
    assert {p: p.stat().st_mtime_ns for p in finished} == finished


def test_who_has_not_the_token_cannot_submit(submit_job, tmp_path):
    stranger = submit_job("quickstart", "--storage", str(tmp_path), RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert stranger.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_images_are_those_of_a_study_that_nobody_killed(storage):
    """Drawn again in this process, without Ray; the shard that was damaged too."""
    from syn_ray.generate.protocol import load_generator
    from syn_ray.generate.render import make_renderer

    for curve in open_study("quickstart", storage, _changes(storage)).curves:
        generator = load_generator(curve.drawn.generator, GenerateResources()) if curve.drawn else None
        renderer = make_renderer(curve.parts[0], generator)
        directory = Storage(storage / "images" / directory_name(curve.parts[0]))
        manifest = open_source(directory)
        assert manifest.rows == 64
        for shard in manifest.shards:
            samples = renderer.render(shard.first_index, shard.rows, manifest.batch_size, lambda _: None)
            kept = [image["bytes"] for image in read_shard(directory, shard)["image"].to_pylist()]
            assert kept == [sample.image for sample in samples]


def test_models_are_those_of_a_study_that_nobody_killed(storage, tmp_path):
    """Trained again in this process, without Ray."""
    import torch

    from syn_ray.train.checkpoint import CheckpointFile
    from syn_ray.train.classify import train_classifier
    from syn_ray.train.config import ClassifyConfig
    from syn_ray.train.execution import Execution

    plan = open_study("quickstart", storage, _changes(storage))
    for run in [run for curve in plan.curves for run in plan.runs(curve)]:
        samples = read_samples(run.images[0], open_source(run.images[0]), run.dataset_size)
        assert isinstance(run.config, ClassifyConfig)
        execution = Execution(CheckpointFile(Storage(tmp_path), run.name))
        model = train_classifier(
            run.config, samples, execution, num_classes=10, seed=run.seed, dataset_size=run.dataset_size
        ).model
        saved = timm.create_model(f"local-dir:{run.directory.local_path}", pretrained=True).state_dict()
        assert all(torch.equal(saved[name], weights) for name, weights in model.state_dict().items())


def test_tables_hold_every_number(storage):
    results = load_results(storage / "studies/quickstart")
    assert tuple(results.columns) == RESULT_COLUMNS
    trained = results.dropna(subset=["run"])
    assert trained["run"].nunique() == 3
    assert len(trained) == 3 * 2 * 3  # runs, evaluation sets, metrics
    assert trained["value"].between(0, 10).all()
    assert sorted(results.loc[results.eval_set == "images", "metric"].unique()) == ["diversity", "recognizability"]
    steps = trained.groupby("dataset_size")["train_steps"].unique()
    assert {size: list(values) for size, values in steps.items()} == {16: [10], 32: [15], 64: [20]}
    fits = pd.read_parquet(storage / "studies/quickstart/fits.parquet")
    assert tuple(fits.columns) == FIT_COLUMNS
    assert len(fits) == 2  # one for each evaluation set
    assert ((fits.low <= fits.scaling_ability) & (fits.scaling_ability <= fits.high)).all()
    per_class = pd.read_parquet(storage / "studies/quickstart/per_class.parquet")
    loss = per_class[(per_class.metric == "loss") & (per_class.eval_set == "garments")]
    assert loss.groupby("run").size().tolist() == [10] * 3


def test_a_result_is_what_the_saved_model_says(storage):
    """A number of the table, measured again without the project's evaluation."""
    import torch

    from syn_ray.shards.decode import decode_images

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
    plan = open_study("quickstart", storage, _changes(storage))
    grid = StudyResult(plan).result_grid
    frame = grid.get_dataframe()
    assert frame["config/curve"].tolist() == ["sd-captions-g4"]
    assert frame["dataset_size"].tolist() == [64]
    assert np.isfinite(frame["garments/loss"]).all()
    assert len(grid[0].metrics_dataframe) == 3  # one report for each dataset size
    page = (storage / "studies/quickstart/report/index.html").read_text()
    assert "sd-captions-g4" in page
    assert verify(Storage(storage)).problems == []
    assert not (storage / "studies/quickstart/running.json").exists()  # `status` says that nothing runs


def test_a_second_run_redoes_nothing(storage):
    before = _files(storage)
    started = time.monotonic()
    done = subprocess.run(_command(storage), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(storage / "studies/quickstart/report/index.html")
    assert time.monotonic() - started < 60  # no Ray is started; the tables and the report are written anew
    rewritten = {name for name, when in _files(storage).items() if before.get(name) != when}
    assert {name.split("/")[2] for name in rewritten} <= {
        "study.yaml",
        "results.parquet",
        "per_class.parquet",
        "fits.parquet",
        "report",
    }


def test_a_finished_study_whose_image_has_changed_is_not_complete(storage):
    plan = open_study("quickstart", storage, _changes(storage))
    assert sources_intact(plan, GenerateResources())
    shard = max(storage.glob("images/stable-diffusion-*/shard-*.parquet"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert not sources_intact(plan, GenerateResources())
    shard.write_bytes(whole)
