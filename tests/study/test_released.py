"""`syn-ray judge`: weights from elsewhere on a study's evaluation sets."""

from __future__ import annotations

import pytest
import torch

from syn_ray.cli import main
from syn_ray.core.storage import Storage
from syn_ray.evaluate.classify import metrics, predict
from syn_ray.evaluate.clip_model import ClipModel, Preprocess
from syn_ray.evaluate.zero_shot import predict_zero_shot
from syn_ray.shards.decode import decode_images
from syn_ray.shards.reader import open_source, read_samples
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.clip_model import create_clip, create_tokenizer
from syn_ray.train.model import create_model

ONE_SET = "evaluation_sets={adversarial: {kind: embedded, name: adversarial}}"
CHANGES = {
    "quickstart": [ONE_SET],
    "embedded-clip": [ONE_SET, "downstream={}", "pairs.held_out=40"],
}


def _model(study, num_classes=10):
    config = load_study(study).train
    return create_clip(config, 1) if isinstance(config, ClipConfig) else create_model(config, num_classes, 1)


def _judge(study, tmp_path, *weights):
    arguments = ["judge", study, *map(str, weights), "--storage", str(tmp_path / "s")]
    for change in CHANGES[study]:
        arguments += ["--set", change]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("study", CHANGES)
def test_weights_from_elsewhere_are_judged_as_runs_are(study, tmp_path, capsys, ray_cluster):
    model = _model(study)
    torch.save(model.state_dict(), tmp_path / "8M.pt")
    assert _judge(study, tmp_path, tmp_path / "8M.pt") == 0
    shown = capsys.readouterr().out
    plan = StudyPlan(load_study(study, CHANGES[study]), Storage(tmp_path / "s"))
    (folder,) = (tmp_path / "s" / "studies" / study / "released").iterdir()
    assert folder.name.startswith("8M-")
    for name in plan.evaluation_sources:
        assert name in shown
    source = plan.source_directory(plan.evaluation_sources["adversarial"])
    images = read_samples(source, open_source(source), open_source(source).rows)
    table, labels = images.select(["image"]), images["label"].to_numpy()
    if isinstance(plan.config.train, ClipConfig):
        told = plan.config.zero_shot_set("adversarial")
        tokenizer = create_tokenizer(plan.config.train)
        clip = ClipModel(model, lambda texts: tokenizer(list(texts)), Preprocess.of(model))
        pixels = clip.preprocess.decode(table)
        (found,) = predict_zero_shot(clip, pixels, labels, class_names=told.class_names, templates=told.templates)
    else:
        train = plan.config.train
        pixels = decode_images(table, train.image_px, train.resize_px)
        (found,) = predict(model, pixels, labels, mean=train.mean, std=train.std)
    (line,) = [line.split() for line in shown.splitlines() if " adversarial " in line]
    heading = next(line.split() for line in shown.splitlines() if "eval_set" in line)
    for name in ("loss", "top1"):
        assert float(line[heading.index(name)]) == pytest.approx(metrics(found)[name], abs=1e-4)
    finished = list((tmp_path / "s" / "studies" / study / "evaluations" / folder.name).glob("*/artifact.json"))
    assert len(finished) == len(plan.evaluation_sources)
    written = {path: path.stat().st_mtime_ns for path in finished}
    assert _judge(study, tmp_path, tmp_path / "8M.pt") == 0
    assert {path: path.stat().st_mtime_ns for path in finished} == written  # nothing is judged twice


@pytest.mark.ray
@pytest.mark.slow
def test_files_that_are_no_such_weights_are_one_line(tmp_path, capsys, ray_cluster):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"none")
    torch.save(_model("quickstart", 7).state_dict(), tmp_path / "seven.pt")
    for study, file, words in [
        ("quickstart", tmp_path / "none.pt", "are not there; give a file of weights, e.g. a released .pt"),
        ("quickstart", broken, "cannot be read"),
        ("quickstart", tmp_path / "seven.pt", "tell 7 classes apart, study 'quickstart' has 10"),
        ("embedded-clip", broken, "are not of clip_tiny_32: "),
        ("embedded-clip", tmp_path / "seven.pt", "are not of clip_tiny_32: "),
    ]:
        assert _judge(study, tmp_path, file) == 2
        assert words in capsys.readouterr().err
