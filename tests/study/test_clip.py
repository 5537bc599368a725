"""Studies of CLIP: what their files come to, what is refused, and one run from pairs to report."""

import io
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.datasets.image_text import index_file
from syn_ray.datasets.pair_index import PairIndex, pairs_beside, write_entry
from syn_ray.datasets.pair_job import complete_index, open_index_job
from syn_ray.evaluate.evaluation import Retrieval, ZeroShot
from syn_ray.report.inputs import DOWNSTREAM, HELD_OUT
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.study.prompts import prompt_uses
from syn_ray.study.results import load_results

TINY = (
    "dataset_sizes=[16,32,64]",
    "fit_window=[16,64]",
    "reference_size=64",
    "seeds=[0]",
    "pairs.held_out=40",
    "generators.sd.num_inference_steps=2",
    "curves.1.guidance_scale=2",
    "curves.2.guidance_scale=2",
    "train.epochs=2",
    "train.batch_size=16",
    "train.stream={window: 32, lanes: 2, chunk: 4}",
    "train.model_cfg.vision_cfg={image_size: 32, patch_size: 8, width: 32, layers: 1, head_width: 16}",
    "evaluation_sets={adversarial: {kind: embedded, name: adversarial}}",
)
"""Makes embedded-clip a study of seconds: three arms, nine trainings (of 64 pairs streamed)."""


def _plan(tmp_path, *changes, study="embedded-clip"):
    return StudyPlan(load_study(study, list(changes)), Storage(tmp_path))


def test_three_arms_have_the_same_captions_and_share_their_images(tmp_path):
    plan = _plan(tmp_path)
    assert [curve.name for curve in plan.curves] == [
        "real",
        *(f"sd-g{scale}" for scale in ("1", "1.5", "4")),
        *(f"mixed-sd-g{scale}" for scale in ("1", "1.5", "4")),
    ]
    by_name = {curve.name: curve for curve in plan.curves}
    mixed = by_name["mixed-sd-g1.5"]
    assert mixed.parts == (by_name["real"].source, by_name["sd-g1.5"].source)
    assert [curve.kind for curve in plan.curves] == ["real", *["synthetic"] * 3, *["mixed"] * 3]
    run = plan.runs(mixed)[0]
    assert [images.uri for images in run.images] == [plan.source_directory(part).uri for part in mixed.parts]
    assert run.synthetic_probability == 0.5
    fingerprints = {run.fingerprint for curve in plan.curves for run in plan.runs(curve)}
    assert len(fingerprints) == 7 * 5 * 3
    assert prompt_uses(plan) == []


def test_another_probability_is_another_curve(tmp_path):
    often = "curves.2={source: mixed, generator: sd, guidance_scale: 1.5, synthetic_probability: 0.75}"
    plan = _plan(tmp_path, often)
    (curve,) = [curve for curve in plan.curves if curve.kind == "mixed"]
    assert curve.name == "mixed-sd-g1.5-p0.75"
    (usual,) = [curve for curve in _plan(tmp_path).curves if curve.name == "mixed-sd-g1.5"]
    assert plan.runs(curve)[0].fingerprint != _plan(tmp_path).runs(usual)[0].fingerprint


def test_each_set_is_judged_with_its_own_classes(tmp_path):
    plan = _plan(tmp_path)
    tasks = {e.eval_set: e.task for e in plan.evaluations(plan.runs(plan.curves[0])[0])}
    assert isinstance(tasks[HELD_OUT], Retrieval)
    assert isinstance(tasks["digits"], ZeroShot)
    assert tasks["digits"].class_names == tuple("0123456789")
    assert tasks["val"] == tasks["sketch"]
    assert len(tasks["families"].class_names) == 5


def test_the_papers_clip_half_is_planned_without_images_and_weights(tmp_path):
    plan = _plan(tmp_path, study="paper-clip")
    plan.check_prompts()
    plan.check_images()
    plan.check_sizes()
    assert len(plan.config.downstream) == 15
    run = plan.runs(plan.curves[0])[-1]
    assert (run.dataset_size, plan.train_steps(run)) == (371_000_000, 362_305)  # 32 epochs of batches of 32,768
    assert [c.name for c in plan.curves][:3] == ["real", "sd15-g1.5", "mixed-sd15-g1.5"]
    templates = {e.eval_set: len(e.task.templates) for e in plan.evaluations(run) if isinstance(e.task, ZeroShot)}
    masked = {e.eval_set for e in plan.evaluations(run) if isinstance(e.task, ZeroShot) and e.task.masked}
    assert masked == {"a", "r"}  # ImageNet-A and -R
    images = {e.eval_set: e.eval_fingerprint for e in plan.evaluations(run)}
    assert (images["a"], images["r"]) == (images["a-1000"], images["r-1000"])  # the same, judged among all classes too
    assert (templates["val"], templates["food101"], templates["cifar10"], templates["country211"]) == (80, 1, 18, 5)


@pytest.mark.parametrize(
    ("study", "change", "message"),
    [
        ("embedded-clip", "pairs=null", "pairs: CLIP trains on images with captions; name them"),
        ("embedded-clip", "real={kind: embedded, name: pool}", "real: CLIP trains on pairs; leave it out"),
        ("embedded-clip", "score={images_per_class: 50}", "score: recognizability and diversity need labels"),
        ("embedded-clip", "long_prompts=stop", "long_prompts: the captions of pairs are cut off"),
        ("embedded-clip", "curves.1.prompts=captions", "curves: CLIP's prompts are the captions of its pairs"),
        (
            "embedded-clip",
            "downstream.cifar_10={kind: parquet, path: x, name: x}",
            "downstream: no class names and templates are known for 'cifar_10'; did you mean 'cifar10'?",
        ),
        (
            "embedded-clip",
            "evaluation_sets.downstream={kind: embedded, name: v2}",
            "evaluation_sets: 'downstream' is what the pooled downstream sets are called in results; rename it",
        ),
        (
            "embedded-clip",
            "masked_sets=[sketchy]",
            "masked_sets: 'sketchy' is no evaluation set; did you mean 'sketch'?",
        ),
        ("embedded-clip", "masked_sets=sketch", 'masked_sets: input should be a list (given: "sketch")'),
        ("embedded-clip", "masked_sets=[digits]", "masked_sets: 'digits' is no evaluation set; choose from"),
        (
            "embedded-clip",
            "curves.2.synthetic_probability=1",
            "curves.2.synthetic_probability: input should be less than 1",
        ),
        ("quickstart", "pairs={kind: embedded, name: pool}", "pairs: they are for CLIP; say train: {objective: clip}"),
        (
            "quickstart",
            "curves.1={source: mixed, generator: sd, guidance_scale: 1, prompts: captions}",
            "curves: source 'mixed' is for CLIP",
        ),
        ("quickstart", "curves.1={source: synthetic, generator: sd, guidance_scale: 1}", "curves: name the prompts of"),
        ("quickstart", "train.objective=clipp", "train: there is no such objective; choose from classify, clip"),
    ],
)
def test_what_does_not_go_with_the_objective_is_one_line(study, change, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_study(study, [change])
    assert "\n" not in str(caught.value)


def _checked(plan):
    plan.check_prompts()
    plan.check_images()
    plan.check_sizes()


def _refused(tmp_path, *changes):
    with pytest.raises(UserError) as caught:
        _checked(_plan(tmp_path, *changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_left_out_of_the_pairs_is_said(tmp_path):
    (tmp_path / "data").mkdir()
    image = io.BytesIO()
    Image.new("RGB", (32, 32)).save(image, "png")
    rows = {"image": [image.getvalue(), b"no image", image.getvalue()], "text": ["a cat", "a dog", ""]}
    pq.write_table(pa.table(rows), tmp_path / "data" / "x.parquet")
    plan = _plan(tmp_path, f"pairs={{kind: parquet, path: '{tmp_path}/data', name: mine}}")
    assert plan.pairs_in_words() is None
    index = PairIndex(pairs=plan.config.pairs, study_seed=plan.config.seed)
    job = open_index_job(index, pairs_beside(plan.images))
    job.add(write_entry(job.directory, index, 0, "x.parquet", index_file(index.pairs, job.files[0])))
    complete_index(job, 0.0)
    assert plan.pairs_in_words() == (
        "pairs mine: 1 in the 1 of 1 files that are indexed; left out: 1 x no caption, 1 x unreadable image"
    )
    assert _plan(tmp_path).pairs_in_words() is None  # the shipped pairs need no index


def test_what_is_there_is_looked_at_before_anything_is_paid_for(tmp_path):
    assert _refused(tmp_path, "dataset_sizes=[128,256,30000]", "fit_window=[128,30000]") == (
        "dataset size 30000 is beyond 'pairs-pool', which has 19000 pairs; give at most 19000"
    )
    own = "pairs={kind: parquet, path: x, name: mine}"
    assert _refused(tmp_path, own).startswith(
        "pairs: generator 'embedded:stable-diffusion' never learned the words of 'mine'; take another generator"
    )
    assert _refused(tmp_path, "downstream.digits.name=shades").startswith(
        "classes: the embedded images 'shades' are of dark, "
    )


def test_labels_of_files_are_brought_into_the_order_of_clips_names(tmp_path):
    changes = ["downstream.pets={kind: webdataset, path: x, name: pets}"]
    changes += ["evaluation_sets.mine={kind: parquet, path: y, name: mine, classes: [a, b]}"]
    changes += ["evaluation_sets.more={kind: parquet, path: z, name: more}"]
    clip, supervised = load_study("embedded-clip", changes), load_study("quickstart", changes[2:])
    sources = {name: source.model_dump() for name, source in clip.evaluation_sources().items()}
    asked = [sources[name]["images"]["classes"] for name in ("pets", "mine", "more")]
    assert asked == ["pets", ("a", "b"), "fashion"]
    # A classifier's labels count as they stand, as they always did.
    assert supervised.evaluation_sources()["more"].model_dump()["images"]["classes"] is None


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    """With two small downstream sets: one is judged by all its images, the other by the mean over its classes."""
    folder = tmp_path_factory.mktemp("downstream")
    downstream = []
    for name, classes in (("digits", 10), ("pets", 37)):
        images = make_images(3 * classes)
        labels = [index % classes for index in range(len(images))]
        pq.write_table(pa.table({"image": images, "label": pa.array(labels, pa.int32())}), folder / f"{name}.parquet")
        downstream.append(f"{name}: {{kind: parquet, path: {folder}/{name}.parquet, name: my-{name}, classes: {name}}}")
    return (*TINY, f"downstream={{{', '.join(downstream)}}}")


def make_images(number):
    noise = np.random.default_rng(0).integers(0, 255, (number, 32, 32), dtype=np.uint8)
    files = [io.BytesIO() for _ in noise]
    for pixels, file in zip(noise, files, strict=True):
        Image.fromarray(pixels).save(file, "png")
    return [file.getvalue() for file in files]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, changes, ray_cluster):
    """A finished tiny study of three arms."""
    from syn_ray.core.resources import Resources
    from syn_ray.study.runner import run_study

    one = Resources.model_validate({"generate": {"max_actors": 1}})
    return run_study("embedded-clip", tmp_path_factory.mktemp("clip"), overrides=changes, resources=one)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
class TestThreeArms:
    def test_every_arm_is_in_the_tables(self, finished):
        table = load_results(finished.plan.root.display)
        of_runs = table.drop_duplicates("run").groupby("source")["run"].count().to_dict()
        assert of_runs == {"real": 3, "synthetic": 3, "mixed": 3}
        assert set(table["objective"]) == {"clip"}
        assert set(table["eval_set"]) == {"adversarial", "digits", "pets", DOWNSTREAM, HELD_OUT}
        recalls = table[table["eval_set"] == HELD_OUT]
        ways = ("image_to_text", "text_to_image")
        assert set(recalls["metric"]) == {f"{way}_recall_at_{within}" for way in ways for within in (1, 5, 10)}
        mixed = table[(table["source"] == "mixed") & (table["dataset_size"] == 64)].iloc[0]
        assert mixed["train_steps"] == 8
        assert 64 < mixed["unique_images"] <= 128

    def test_the_pool_is_the_mean_of_the_downstream_sets(self, finished):
        table = finished.results
        losses = table[table["metric"] == "loss"].pivot_table(index="run", columns="eval_set", values="value")
        np.testing.assert_allclose(losses[DOWNSTREAM], losses[["digits", "pets"]].mean(axis=1))
        headline = table[table["metric"].isin(["top1", "mean_per_class", "headline"])]
        wide = headline.pivot_table(index="run", columns=["eval_set", "metric"], values="value")
        expected = (wide["digits", "top1"] + wide["pets", "mean_per_class"]) / 2
        np.testing.assert_allclose(wide[DOWNSTREAM, "headline"], expected)
        assert set(finished.fits["eval_set"]) == {"adversarial", "digits", "pets", DOWNSTREAM}

    def test_a_zero_shot_result_is_what_open_clip_says_of_the_saved_model(self, finished):
        import torch

        from syn_ray.evaluate.classify import metrics
        from syn_ray.evaluate.clip_model import load_clip
        from syn_ray.evaluate.zero_shot import predict_zero_shot
        from syn_ray.shards.reader import open_source, read_samples

        run = finished.plan.runs(finished.plan.curves[-1])[-1]
        evaluation = finished.plan.evaluations(run)[0]
        clip = load_clip(run.directory.local_path)
        manifest = open_source(evaluation.images)
        table = read_samples(evaluation.images, manifest, manifest.rows, ["image", "label"])
        with torch.inference_mode():
            (found,) = predict_zero_shot(
                clip,
                clip.preprocess.decode(table),
                table["label"].to_numpy(),
                class_names=evaluation.task.class_names,
                templates=evaluation.task.templates,
            )
        mine = finished.results.query("run == @run.name and eval_set == 'adversarial'").set_index("metric")["value"]
        assert mine["loss"] == pytest.approx(metrics(found)["loss"], abs=1e-4)
        assert mine["top1"] == pytest.approx(metrics(found)["top1"], abs=1e-4)

    def test_each_stage_alone_finds_everything_done(self, finished):
        from syn_ray.core.resources import Resources
        from syn_ray.study.session import run_stage

        said = io.StringIO()
        for stage in ("generate", "train", "evaluate"):
            run_stage(stage, finished.plan, Resources(), Console(file=said, width=300))
        assert "on held_out: image to text recall at 1 0." in said.getvalue()
        assert "on digits: loss " in said.getvalue()
        with pytest.raises(UserError, match=r"^study 'embedded-clip' trains CLIP, whose pairs have no labels; leave"):
            run_stage("score", finished.plan, Resources(), Console(file=said))

    @pytest.mark.usefixtures("ray_cluster")
    def test_what_is_missing_is_told_before_anything_is_paid_for(self, changes, tmp_path):
        from syn_ray.study.runner import run_study

        empty = tmp_path / "empty"
        empty.mkdir()
        for name, words in (("empty", "food101"), ("absent", "not there|no such|does not|there is no|holds no")):
            change = f"downstream.food101={{kind: webdataset, path: '{tmp_path}/{name}', name: food101}}"
            with pytest.raises(UserError, match=words) as caught:
                run_study("embedded-clip", tmp_path / "storage", overrides=[*changes, change])
            assert "\n" not in str(caught.value)
        assert not (tmp_path / "storage" / "images").exists()

    def test_a_second_run_redoes_nothing(self, finished, changes):
        from syn_ray.study.runner import run_study

        before = {p: p.stat().st_mtime_ns for p in finished.plan.storage.local_path.rglob("artifact.json")}
        again = run_study("embedded-clip", finished.plan.storage.local_path, overrides=changes)
        assert {p: p.stat().st_mtime_ns for p in before} == before
        pd.testing.assert_frame_equal(again.results, finished.results)

    def test_the_report_has_table_1_and_retrieval(self, finished):
        page = (finished.plan.root.local_path / "report" / "index.html").read_text()
        assert 'id="table-downstream"' in page
        assert 'id="table-retrieval"' in page
        assert "Real and synthetic" in page
