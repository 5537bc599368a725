"""Tables and report of a study that is finished in parts, from records that are written here by hand; no Ray."""

import io
import socket
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from syn_ray.cli import main
from syn_ray.core.artifact import write_artifact
from syn_ray.core.errors import MissingResultError
from syn_ray.core.storage import Storage
from syn_ray.report.findings import find_all
from syn_ray.report.inputs import CURVE_COLUMNS, ReportError, list_curves
from syn_ray.shards.manifest import Manifest, write_manifest
from syn_ray.shards.schema import Sample
from syn_ray.shards.writer import write_shard
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.publish import whole_rows, write_report, write_tables
from syn_ray.study.runner import open_study

# One process has the half-finished study and its page.
pytestmark = pytest.mark.xdist_group("pages")

SMALL = (
    "dataset_sizes=[16, 32, 64, 128, 256, 512]",
    "fit_window=[16, 512]",
    "reference_size=512",
    "score.images_per_class=2",
    "train.steps={base_steps: 30, reference_size: 16, steps_per_doubling: 10}",
    "evaluation_sets={val: {kind: embedded, name: val}, v2: {kind: embedded, name: v2}}",
)
ONE_SET = "evaluation_sets={val: {kind: embedded, name: val}}"
IMAGES = 400
DIFFICULTY = np.exp(np.random.default_rng(0).normal(-0.125, 0.5, IMAGES))  # mean 1 over all possible images
BUDGET = {"train_steps": 30, "samples_seen": 1920, "epochs": 9.0, "train_loss": 1.0}


def _write(directory, kind, fingerprint, result):
    write_artifact(directory, kind=kind, name="n", fingerprint=fingerprint, config={}, seconds=1.0, result=result)


def train(run, loss=None, evaluations=()):
    """The records of a run whose mean loss on every set is `loss`, by images of different difficulty."""
    result = BUDGET | {"dataset_size": run.dataset_size, "unique_images": run.dataset_size}
    _write(run.directory, "run", run.fingerprint, result)
    own = np.random.default_rng([run.dataset_size, run.seed]).normal(0, 0.2, IMAGES)
    for evaluation in evaluations:
        losses = (loss or 1.0) * DIFFICULTY * np.exp(own)
        sink = io.BytesIO()
        pq.write_table(pa.table({"loss": losses}), sink)
        evaluation.directory.write_bytes("predictions.parquet", sink.getvalue())
        by_class = {"class_index": [0, 1], "loss": [1.0, 2.0], "top1": [0.5, 0.4], "top5": [0.9, 0.8]}
        answer = {"loss": float(losses.mean()), "top1": 0.45, "top5": 0.85, "images": IMAGES, "per_class": by_class}
        _write(evaluation.directory, "evaluation", evaluation.fingerprint, answer)


def score(plan, curve):
    values = {"recognizability": 0.9, "diversity": 0.2}
    result: dict[str, Any] = {"images": 20} | values
    for name, value in values.items():
        result |= {f"{name}_interval": [value - 0.01, value + 0.01], f"{name}_per_class": [value] * 10}
    scoring = plan.scoring(curve)
    _write(scoring.directory, "scores", scoring.fingerprint, result)


def draw(plan, curve):
    """Twenty images of a curve's source."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 100, dtype=np.uint8)).save(buffer, "PNG")
    samples = [Sample(i, buffer.getvalue(), i % 10, None, None) for i in range(20)]
    directory = plan.source_directory(curve.source)
    entry = write_shard(directory, samples, provenance={"fingerprint": curve.source.fingerprint})
    start = Manifest(name="n", fingerprint=curve.source.fingerprint, shard_size=20, batch_size=1)
    write_manifest(directory, start.with_shards([entry]))


def planted_loss(size, k=0.2):
    return 2.0 * (size / 16) ** -k


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """Of four curves: the first whole, the second judged on one set at its largest size, the third scored and drawn and
    not trained, the fourth trained and not scored. Nothing is judged on v2 but what is said here."""
    storage = tmp_path_factory.mktemp("half")
    plan = open_study("quickstart", storage, SMALL)
    first, second, third, fourth = plan.curves
    for curve in (first, second, third):
        score(plan, curve)
        draw(plan, curve)
    for run in plan.runs(first):
        train(run, planted_loss(run.dataset_size), plan.evaluations(run))
    for run in plan.runs(second):
        judged = plan.evaluations(run)
        train(run, planted_loss(run.dataset_size, 0.1), judged if run.dataset_size < 512 else judged[:1])
    for run in plan.runs(fourth)[:2]:
        train(run, planted_loss(run.dataset_size, 0.05), plan.evaluations(run))
    train(plan.runs(fourth)[2])  # trained, and killed before it was judged
    return storage, plan


@pytest.fixture(scope="module")
def tables(half):
    _, plan = half
    return write_tables(plan)


@pytest.mark.slow
def test_half_a_study_has_its_report(half, tables):
    storage, plan = half
    write_report(plan, tables)
    page = (storage / "studies/quickstart/report/index.html").read_text()
    for curve in plan.curves[:2]:
        assert '<code class="curve' in page
        assert curve.name in page
    for line in (
        "real: 6/6 trainings and 12/12 evaluations done",  # its 512 images are not drawn, so it is not whole
        "sd-captions-g1: 6/6 trainings and 11/12 evaluations done",
        "sd-captions-g2: 0/6 trainings and 0/12 evaluations done",
        "sd-captions-g7.5: 3/6 trainings and 4/12 evaluations done, images not scored",
    ):
        assert line in page
    assert "Not trained at this size: `real`" not in page
    assert 'alt="t-shirt, sample 1 of sd-captions-g1"' in page
    assert "sample 1 of sd-captions-g2" not in page  # a curve without results has no samples either


def test_everything_measured_stands_in_the_tables(half, tables):
    storage, _ = half
    results = pd.read_parquet(storage / "studies/quickstart/results.parquet")
    trained = results.dropna(subset=["run"])
    assert len(trained) == (12 + 11 + 4) * 3  # evaluations, metrics
    assert results.loc[results.eval_set == "images", "curve"].nunique() == 3
    kept = whole_rows(results)
    assert sorted(kept["curve"].unique()) == ["real", "sd-captions-g1", "sd-captions-g7.5"]
    assert kept.loc[kept.curve == "sd-captions-g1", "dataset_size"].max() == 256
    assert set(kept.loc[kept.eval_set == "images", "curve"]) == {"real", "sd-captions-g1"}


def test_rows_of_image_scores_have_no_objective_and_no_model(half, tables):
    storage, _ = half
    results = pd.read_parquet(storage / "studies/quickstart/results.parquet")
    scores, trained = results[results.eval_set == "images"], results[results.eval_set != "images"]
    for column in ("objective", "model", "seed", "samples_seen", "unique_images", "epochs", "train_steps", "run"):
        assert scores[column].isna().all()
        assert trained[column].notna().all()
    assert (scores["dataset_size"] == 20).all()  # how many were scored
    curves = list_curves(whole_rows(results)).set_index("curve")
    assert list(curves.columns) == list(CURVE_COLUMNS[1:])
    assert set(curves["model"]) == {"vit_tiny_r_s16_p8_224"}


@pytest.mark.slow
def test_a_study_of_single_sizes_has_a_report_without_laws(tmp_path, capsys):
    """Judged on one of its two sets, too."""
    single = ("curves.0.dataset_sizes=[512]", "curves.1.dataset_sizes=[512]", "curves.1.guidance_scale=[1, 2]")
    plan = open_study("quickstart", tmp_path, (*SMALL, *single))
    for place, curve in enumerate(plan.curves):
        (run,) = plan.runs(curve)
        train(run, 1.0 + place, plan.evaluations(run)[:1])
    changes = [part for change in (*SMALL, *single) for part in ("--set", change)]
    with pytest.raises(SystemExit) as ended:
        main(["report", "quickstart", "--storage", str(tmp_path), *changes])
    assert not ended.value.code
    assert capsys.readouterr().out.strip() == str(tmp_path / "studies/quickstart/report/index.html")
    fits = pd.read_parquet(tmp_path / "studies/quickstart/fits.parquet")
    assert (len(fits), str(fits["scaling_ability"].dtype)) == (0, "float64")
    page = (tmp_path / "studies/quickstart/report/index.html").read_text()
    assert "No curve has the three sizes that a law needs" in page
    assert "these single measurements have no interval: not resolved" in page
    assert not (tmp_path / "studies/quickstart/report/figures/scaling-ability.svg").exists()
    assert "<h3>val</h3>" in page
    assert "<h3>v2</h3>" not in page


def test_scores_alone_are_no_report_and_say_so(tmp_path):
    plan = open_study("quickstart", tmp_path, SMALL)
    with pytest.raises(MissingResultError, match="has no results yet"):
        write_tables(plan)
    score(plan, plan.curves[0])
    with pytest.raises(ReportError, match="there are only image scores"):
        write_report(plan, write_tables(plan))


@pytest.mark.slow
def test_a_curve_that_bends_has_a_second_form_and_pairs_are_compared(tmp_path):
    plan = open_study("quickstart", tmp_path, (*SMALL, ONE_SET, "curves.1.guidance_scale=1", "seeds=[0, 1, 2]"))
    floor, line = plan.curves
    for curve, law in ((floor, lambda size: 0.5 + 2.0 * size**-0.5), (line, planted_loss)):
        for run in plan.runs(curve):
            train(run, law(run.dataset_size), plan.evaluations(run))
    tables = write_tables(plan)
    assert list(tables.fits.query("eval_set == 'val'")["form"]) == ["power", "power_offset", "power"]
    offset = tables.fits.query("form == 'power_offset' and eval_set == 'val'").iloc[0]
    assert offset["low"] < 0.5 < offset["high"]
    assert offset["performance_measured"] == tables.fits["performance_measured"][0]
    assert offset["r2"] > 0.99 > tables.fits["r2"][0]
    forecasts = tables.forecasts.query("eval_set == 'val'").set_index(["curve", "form"])
    assert forecasts.index[forecasts["chosen"]].tolist()[0] == ("real", "power_offset")
    assert set(forecasts["dataset_size"]) == {512}
    # The line through the five smaller sizes, from the planted losses: -8.4%.
    assert forecasts.loc[("real", "power"), "error"] == pytest.approx(-0.084, abs=0.02)  # their mean is off by 0.6%
    found = find_all(tables.results, tables.fits, tables.intervals, forecasts=tables.forecasts)
    (bend,) = (finding.text for finding in found if finding.text.startswith("Fitted without the largest size"))
    assert "for 1 of 2 curves" in bend
    assert "It bends for `real` (" in bend
    pairs = tables.comparisons.query("eval_set == 'val'")
    assert len(pairs) == 1 + 6  # k, and the loss at each size
    slopes = tables.fits.query("eval_set == 'val' and form == 'power'")["scaling_ability"].tolist()
    slope = pairs.query("metric == 'scaling_ability'").iloc[0]
    assert slope["difference"] == pytest.approx(slopes[0] - slopes[1])
    assert set(pairs["a"]) == {"real"}
    assert ((pairs["low"] <= pairs["difference"]) & (pairs["difference"] <= pairs["high"])).all()


def test_results_are_looked_at_without_the_raw_images(tmp_path, capsys):
    """A curve of real images in a folder that is not on this machine."""
    changes = (
        *SMALL,
        f"real={{kind: folder, path: {tmp_path}/nowhere, name: pets}}",
        f"evaluation_sets={{val: {{kind: folder, path: {tmp_path}/nowhere either, name: tests}}}}",
        "curves=[{source: real}]",
    )
    arguments = ["quickstart", "--storage", str(tmp_path), *(part for change in changes for part in ("--set", change))]
    with pytest.raises(SystemExit) as ended:
        main(["report", *arguments])
    assert ended.value.code == 1
    assert "has no results yet" in capsys.readouterr().err  # and no word of the folder
    plan = StudyPlan(load_study("quickstart", changes), Storage(tmp_path))
    for run in plan.runs(plan.curves[0]):
        train(run, planted_loss(run.dataset_size), plan.evaluations(run))
    with pytest.raises(SystemExit) as ended:
        main(["fit", *arguments])
    assert not ended.value.code
    assert "power" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_fails_leaves_a_report_of_what_is_finished(monkeypatch, capsys, tmp_path):
    plan = open_study("quickstart", tmp_path, SMALL)
    for run in plan.runs(plan.curves[0]):
        train(run, planted_loss(run.dataset_size), plan.evaluations(run))
    changes = [part for change in SMALL for part in ("--set", change)]
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # one of other tests may be, in this process
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: no cluster is there
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(SystemExit) as ended:
            main(["run", "quickstart", "--storage", str(tmp_path), *changes])
    assert ended.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"what is finished: {tmp_path}/studies/quickstart/report/index.html"
    assert lines[-1].startswith("syn-ray: RAY_ADDRESS is '127.0.0.1:")
    assert (tmp_path / "studies/quickstart/report/index.html").exists()
    assert not (tmp_path / "studies/quickstart/running.json").exists()
