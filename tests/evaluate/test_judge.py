"""What is kept of decoded evaluation sets from model to model, and what a masked set may answer."""

from __future__ import annotations

import dataclasses
import functools
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from syn_ray import embedded
from syn_ray.core.artifact import write_artifact
from syn_ray.core.config import fingerprint_of
from syn_ray.core.storage import Storage
from syn_ray.evaluate.evaluation import Classification, Evaluation, ZeroShot
from syn_ray.evaluate.judge import DecodedSets, judge
from syn_ray.shards.decode import decode_images
from syn_ray.shards.manifest import Manifest, write_manifest
from syn_ray.shards.schema import Sample
from syn_ray.shards.writer import write_shard

if TYPE_CHECKING:
    import pyarrow as pa

    from syn_ray.evaluate.classify import Predictions

IMAGES = 5
BYTES = IMAGES * 3 * 8 * 8
"""Of a set decoded to 8 px."""


def evaluation(tmp_path, labels: list[int]) -> Evaluation:
    """Of a set with these labels, whose pictures are each as grey as its label says."""
    name = "-".join(str(label) for label in labels)
    fingerprint = fingerprint_of("test", {"labels": labels})
    directory = Storage(tmp_path / "images" / name)
    samples = [Sample(place, _grey(label), label, "", 0) for place, label in enumerate(labels)]
    manifest = Manifest(name=name, fingerprint=fingerprint, shard_size=len(labels), batch_size=1)
    entry = write_shard(directory, samples, provenance={"fingerprint": fingerprint, "batch_size": 1})
    write_manifest(directory, manifest.with_shards([entry]))
    write_artifact(
        directory,
        kind="images",
        name=manifest.name,
        fingerprint=fingerprint,
        config={},
        seconds=0.0,
        result={"rows": len(labels)},
    )
    return Evaluation(
        run="run",
        run_fingerprint="r" * 64,
        model=directory,
        eval_set=manifest.name,
        eval_fingerprint=fingerprint,
        images=directory,
        task=Classification(8, 8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        evaluations=Storage(tmp_path / "evaluations"),
    )


def _grey(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Decoder:
    """Decodes to `image_px` and counts how often it is asked."""

    def __init__(self, image_px: int = 8) -> None:
        self.times = 0
        self._decode = functools.partial(decode_images, crop_px=image_px, resize_px=image_px)

    def __call__(self, table: pa.Table) -> torch.Tensor:
        self.times += 1
        return self._decode(table)


@pytest.mark.parametrize(("room", "decoded"), [(0, 6), (BYTES - 1, 6), (BYTES, 4), (2 * BYTES, 2)])
def test_sets_are_kept_as_far_as_there_is_room(tmp_path, room, decoded):
    """Three models see two sets: what has room is decoded once, the other for each model."""
    sets, decode = DecodedSets(room), Decoder()
    both = [evaluation(tmp_path, [number] * IMAGES) for number in (1, 2)]
    for _ in range(3):
        for number, one in enumerate(both, start=1):
            images, rows = sets.get(one, "8", decode)
            assert images.shape == (IMAGES, 3, 8, 8)
            assert images.dtype == torch.uint8
            assert (images == number).all()
            assert rows["label"].to_pylist() == [number] * IMAGES
    assert decode.times == decoded


def test_models_that_see_a_set_otherwise_get_it_otherwise(tmp_path):
    sets, small, large = DecodedSets(2**20), Decoder(8), Decoder(12)
    one = evaluation(tmp_path, [1] * IMAGES)
    for _ in range(2):
        assert sets.get(one, "8", small)[0].shape[-1] == 8
        assert sets.get(one, "12", large)[0].shape[-1] == 12
    assert (small.times, large.times) == (1, 1)


def answers(evaluation: Evaluation, **changes) -> Predictions:
    """What the model says of the set, with another task."""
    other = dataclasses.replace(evaluation, task=dataclasses.replace(evaluation.task, **changes))
    ((_, answer),) = judge([other], DecodedSets(2**20), device="cpu", batch_size=4)
    assert answer.predictions is not None
    return answer.predictions


def test_a_masked_set_is_judged_among_the_classes_that_occur_in_it(tmp_path):
    """As on ImageNet-A: the loss is of the probabilities of its two classes alone."""
    directory = embedded.asset_path("classifier")
    labels = [3, 7, 7, 3]
    given = dataclasses.replace(
        evaluation(tmp_path, labels),
        model=Storage(directory),
        task=Classification(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )
    images, _ = DecodedSets(0).get(given, "32", Decoder(32))
    with torch.inference_mode():
        logits = timm.create_model(f"local-dir:{directory}", pretrained=True).eval()(images / 127.5 - 1)
    among_two = torch.nn.functional.cross_entropy(logits[:, [3, 7]], torch.tensor([0, 1, 1, 0]), reduction="none")
    among_all = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none")
    masked, whole = answers(given, masked=True), answers(given)
    np.testing.assert_allclose(masked.loss, among_two, rtol=1e-4, atol=1e-5)  # float32 in batches of another size
    np.testing.assert_allclose(whole.loss, among_all, rtol=1e-4, atol=1e-5)
    assert masked.label.tolist() == labels
    assert masked.predicted.tolist() == [(3, 7)[int(row)] for row in logits[:, [3, 7]].argmax(1)]


def test_clip_is_masked_too(tmp_path, tiny_clip):
    names = ("a cat", "a dog", "a red car", "a boat", "the sea")
    given = dataclasses.replace(
        evaluation(tmp_path, [1, 4, 4, 1]), model=Storage(tiny_clip), task=ZeroShot(names, ("{}",))
    )
    masked, whole = answers(given, masked=True), answers(given)
    assert set(masked.predicted) <= {1, 4}
    assert (masked.loss < whole.loss).all()
