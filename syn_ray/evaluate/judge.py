"""Judges trained models on evaluation sets: loads a model once, decodes a set once for all models that see it alike."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from syn_ray.evaluate.classify import mean_per_class, metrics, predict
from syn_ray.evaluate.evaluation import Classification, Retrieval, ZeroShot
from syn_ray.evaluate.retrieval import recall
from syn_ray.shards.decode import decode_images
from syn_ray.shards.reader import open_source, read_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from syn_ray.core.storage import Storage
    from syn_ray.evaluate.classify import Predictions
    from syn_ray.evaluate.evaluation import Evaluation


class Answer(NamedTuple):
    """What came of an evaluation."""

    metrics: dict[str, float]
    images: int
    predictions: Predictions | None
    """Of each image; None of retrieval."""


class DecodedSets:
    """Evaluation sets as models see them; kept as far as there is room, the others are decoded for each model.

    Args:
        cache_bytes: room for decoded images.
    """

    def __init__(self, cache_bytes: int) -> None:
        self._room = cache_bytes
        self._sets: dict[tuple[str, str], tuple[torch.Tensor, pa.Table]] = {}

    def get(self, evaluation: Evaluation, pixels: str, decode: Any) -> tuple[torch.Tensor, pa.Table]:
        """Images uint8 [images, 3, height, width], and the columns label and text.

        Args:
            evaluation: says which set.
            pixels: names what decides the decoded images.
            decode: a table's column `image` to images.
        """
        key = (evaluation.eval_fingerprint, pixels)
        if key in self._sets:
            return self._sets[key]
        manifest = open_source(evaluation.images)
        table = read_samples(evaluation.images, manifest, manifest.rows, ["image", "label", "text"])
        found = decode(table), table.select(["label", "text"])
        if found[0].nbytes <= self._room:
            self._room -= found[0].nbytes
            self._sets[key] = found
        return found


def judge(
    evaluations: Sequence[Evaluation], sets: DecodedSets, *, device: torch.device | str, batch_size: int
) -> Iterator[tuple[Evaluation, Answer]]:
    """The answers of one model, as they come.

    Args:
        evaluations: all of the same run.
        sets: where decoded sets are kept from model to model.
        device: where the model runs.
        batch_size: images in one pass; changes no result beyond float rounding.
    """
    classifies = isinstance(evaluations[0].task, Classification)
    model = (_Classifier if classifies else _Clip)(evaluations[0].model, sets, device, batch_size)
    for evaluation in evaluations:
        yield evaluation, model.answer(evaluation)


class _Classifier:
    """A timm model in a run's directory."""

    def __init__(self, directory: Storage, sets: DecodedSets, device: torch.device | str, batch_size: int) -> None:
        import timm  # here and in `_Clip`: an actor loads the one library it needs, which takes seconds

        with tempfile.TemporaryDirectory() as folder:
            _copy(directory, folder, ["config.json", "model.safetensors"])
            self._model = timm.create_model(f"local-dir:{folder}", pretrained=True)
        self._sets = sets
        self._where: dict[str, Any] = {"device": device, "batch_size": batch_size}

    def answer(self, evaluation: Evaluation) -> Answer:
        task = evaluation.task
        assert isinstance(task, Classification)
        decode = functools.partial(decode_images, crop_px=task.image_px, resize_px=task.resize_px)
        images, rows = self._sets.get(evaluation, f"{task.image_px}-{task.resize_px}", decode)
        labels = rows["label"].to_numpy()
        masks = [_mask(task, labels)]
        (found,) = predict(self._model, images, labels, mean=task.mean, std=task.std, class_masks=masks, **self._where)
        return Answer(metrics(found), len(found), found)


class _Clip:
    """An open_clip model in a run's directory."""

    def __init__(self, directory: Storage, sets: DecodedSets, device: torch.device | str, batch_size: int) -> None:
        from syn_ray.evaluate.clip_model import load_clip

        with tempfile.TemporaryDirectory() as folder:
            _copy(directory, folder, [name for name in directory.files() if not name.endswith(".parquet")])
            self._clip = load_clip(folder)
        self._sets = sets
        self._where: dict[str, Any] = {"device": device, "batch_size": batch_size}
        self._classifiers: dict[tuple[tuple[str, ...], tuple[str, ...]], torch.nn.Module] = {}

    def answer(self, evaluation: Evaluation) -> Answer:
        view = self._clip.preprocess
        images, rows = self._sets.get(evaluation, f"clip-{view.pixels}", view.decode)
        if isinstance(evaluation.task, Retrieval):
            return self._retrieve(images, rows["text"].to_pylist(), evaluation.task)
        assert isinstance(evaluation.task, ZeroShot)
        model, labels = self._classifier(evaluation.task), rows["label"].to_numpy()
        masks = [_mask(evaluation.task, labels)]
        (found,) = predict(model, images, labels, mean=view.mean, std=view.std, class_masks=masks, **self._where)
        return Answer(metrics(found) | {"mean_per_class": mean_per_class(found)}, len(found), found)

    def _classifier(self, task: ZeroShot) -> torch.nn.Module:
        """Made once for sets of the same classes, as ImageNet and its shifted ones are."""
        from syn_ray.evaluate.zero_shot import ZeroShotClassifier, build_weights

        key = (task.class_names, task.templates)
        if key not in self._classifiers:
            weights = build_weights(self._clip, task.class_names, task.templates, device=self._where["device"])
            self._classifiers[key] = ZeroShotClassifier(self._clip.model, weights)
        return self._classifiers[key]

    def _retrieve(self, images: torch.Tensor, texts: list[str], task: Retrieval) -> Answer:
        found = recall(
            self._clip.encode_images(images, **self._where),
            self._clip.encode_texts(texts, **self._where),
            range(len(images)),
            within=task.within,
            device=self._where["device"],
        )
        return Answer(found, len(images), None)


def _mask(task: Classification | ZeroShot, labels: npt.NDArray[np.int32]) -> list[int] | None:
    """The classes that may be answered; None for all."""
    return np.unique(labels).tolist() if task.masked else None


def _copy(directory: Storage, folder: str, names: Sequence[str]) -> None:
    for name in names:
        (Path(folder) / name).write_bytes(directory.read_bytes(name))
