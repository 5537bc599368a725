"""A study that says `score: null`: planned, reported and complete without scores."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from syn_ray.cli import main
from syn_ray.core.artifact import write_artifact
from syn_ray.core.storage import Storage
from syn_ray.evaluate.evaluation import PREDICTIONS
from syn_ray.report.inputs import RESULT_COLUMNS
from syn_ray.shards.manifest import Manifest, write_manifest
from syn_ray.shards.schema import Sample
from syn_ray.shards.writer import write_shard
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.publish import write_report, write_tables
from syn_ray.study.status import curve_status

CHANGES = [
    "score=null",
    "curves.1.guidance_scale=2",
    "curves.1.prompts=[captions, classnames]",
    "dataset_sizes=[16,32,64]",
    "fit_window=[16,64]",
    "reference_size=64",
    "train.steps={base_steps: 30, reference_size: 16, steps_per_doubling: 10}",
    "evaluation_sets={v2: {kind: embedded, name: v2}}",
]


def _dot():
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 128, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


DOT = _dot()


def _finish(plan):
    """What the stages leave of a finished study, with losses that fall as D to the power -0.5."""
    rng = np.random.default_rng(0)
    for curve in plan.curves:
        directory = plan.source_directory(curve.source)
        samples = [Sample(index, DOT, index % 10, "a dot", index) for index in range(64)]
        shard = write_shard(directory, samples, provenance={"fingerprint": curve.source.fingerprint})
        manifest = Manifest(
            name=curve.source.name, fingerprint=curve.source.fingerprint, shard_size=64, batch_size=1, shards=(shard,)
        )
        write_manifest(directory, manifest)
        for run in plan.runs(curve):
            budget = {"samples_seen": 640, "unique_images": run.dataset_size, "epochs": 1.0, "train_steps": 10}
            _record(run.directory, run.fingerprint, budget)
            (evaluation,) = plan.evaluations(run)
            losses = (4 * run.dataset_size**-0.5 + 0.05 * rng.random(20)).astype(np.float32)
            buffer = io.BytesIO()
            ranks = np.zeros(20, dtype=np.int16)
            labels = (np.arange(20) % 10).astype(np.int32)
            table = {"loss": losses, "label": labels, "rank_of_label": ranks, "predicted": labels}
            pq.write_table(pa.table(table), buffer)
            evaluation.directory.write_bytes(PREDICTIONS, buffer.getvalue())
            answer = {"loss": float(losses.mean()), "top1": 1.0, "top5": 1.0}
            per_class = {"class_index": [0.0], "loss": [1.0], "top1": [1.0], "top5": [1.0]}
            _record(evaluation.directory, evaluation.fingerprint, answer | {"per_class": per_class})


def _record(directory, fingerprint, result):
    write_artifact(directory, kind="k", name="n", fingerprint=fingerprint, config={}, seconds=1.0, result=result)


@pytest.fixture
def plan(tmp_path):
    return StudyPlan(load_study("quickstart", CHANGES), Storage(tmp_path))


def test_nothing_is_asked_of_the_images_but_training(plan):
    assert [plan.images_needed(curve) for curve in plan.curves] == [64] * 3  # with scores 500: 50 of each of 10 classes
    assert plan.scoring(plan.curves[0]) is None
    assert not curve_status(plan, plan.curves[0]).complete


@pytest.mark.slow
@pytest.mark.xdist_group("pages")  # which has the chart library bundled
def test_a_finished_study_is_complete_and_has_its_report(plan):
    _finish(plan)
    assert all(curve_status(plan, curve).complete for curve in plan.curves)
    tables = write_tables(plan)
    assert tuple(tables.results.columns) == RESULT_COLUMNS
    assert set(tables.results["eval_set"]) == {"v2"}
    assert set(tables.intervals["metric"]) == {"loss"}
    assert len(tables.fits) == 3
    directory = write_report(plan, tables)
    page = directory.read_bytes("index.html").decode()
    assert 'id="loss"' in page
    assert 'id="recognizability-diversity"' not in page  # the figure's anchor
    assert "Prompts <code>captions</code> against <code>classnames</code> at 1 guidance scale: loss on v2" in page
    per_class = pd.read_parquet(plan.root.path("per_class.parquet"))
    assert set(per_class["metric"]) == {"loss", "top1", "top5"}


def test_commands_say_that_scores_are_off(capsys, tmp_path):
    changes = [part for change in CHANGES for part in ("--set", change)]
    with pytest.raises(SystemExit) as ended:
        main(["plan", "quickstart", "--storage", str(tmp_path), *changes])
    assert not ended.value.code
    assert "│ off" in capsys.readouterr().out
