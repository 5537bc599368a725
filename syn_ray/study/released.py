"""Weights from elsewhere, as the paper's authors have released theirs, on the evaluation sets of a study."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from syn_ray.core.artifact import read_artifact, write_artifact
from syn_ray.core.config import fingerprint_of
from syn_ray.core.errors import UserError
from syn_ray.core.resources import Resources
from syn_ray.evaluate.stage import evaluate_runs
from syn_ray.generate.stage import make_images
from syn_ray.study.plan import StudyPlan, Weights
from syn_ray.train.config import ClassifyConfig


def judge_weights(plan: StudyPlan, files: Sequence[Path], resources: Resources) -> pd.DataFrame:
    """Judges weights of the model that a study trains as its own runs are judged.

    Args:
        plan: says the architecture, how it sees images, the evaluation sets and the classes that may be answered.
        files: flat state dicts, by timm's names or by open_clip's.
        resources: of the evaluation.

    Returns:
        Columns weights, eval_set, metric, value (losses in nats, accuracies and recalls as fractions). They also lie
        under the study's `evaluations/`, with every image's loss; tables and laws of the study leave them out.

    Raises:
        UserError: a file is not there, or holds no such weights.
    """
    found = [_adopt(plan, file) for file in files]
    make_images(plan.evaluation_requests, plan.images, resources.generate)
    evaluations = [evaluation for weights in found for evaluation in plan.evaluations(weights)]
    rows = [
        {"weights": evaluation.run, "eval_set": evaluation.eval_set, "metric": metric, "value": value}
        for evaluation, artifact in zip(evaluations, evaluate_runs(evaluations, resources.evaluate), strict=True)
        for metric, value in artifact.result.items()
        if isinstance(value, float)
    ]
    return pd.DataFrame(rows)


def _adopt(plan: StudyPlan, file: Path) -> Weights:
    """A file's weights as a directory that timm or open_clip loads; made once."""
    if not file.is_file():
        raise UserError(f"weights '{file}' are not there; give a file of weights, e.g. a released .pt")
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    identity = {"sha256": digest, "config": plan.config.train.identity}
    fingerprint = fingerprint_of("released weights", identity)
    name = f"{file.stem}-{fingerprint[:8]}"
    weights = Weights(name, fingerprint, plan.root / "released" / name)
    if read_artifact(weights.directory, fingerprint) is None:
        _export(plan, file, weights)
        write_artifact(
            weights.directory,
            kind="released",
            name=name,
            fingerprint=fingerprint,
            config=identity,
            seconds=0.0,
            result={"file": file.name},
        )
    return weights


def _export(plan: StudyPlan, file: Path, weights: Weights) -> None:
    config = plan.config.train
    if isinstance(config, ClassifyConfig):
        from syn_ray.evaluate.released import load_released_classifier  # loads timm
        from syn_ray.train.checkpoint import export_model

        model = load_released_classifier(file, config.model, **config.model_kwargs)
        answers, classes = model.num_classes, len(plan.class_names)
        if answers != classes:
            raise UserError(f"weights '{file}' tell {answers} classes apart, study '{plan.config.name}' has {classes}")
        export_model(model, config, weights.directory)
        return
    from syn_ray.train.clip_model import export_clip, load_weights  # loads open_clip

    export_clip(load_weights(config, file), config, weights.directory)
