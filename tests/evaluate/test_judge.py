"""What is kept of decoded evaluation sets from model to model: as much as there is room for, and the right pictures."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from syn_ray.core.artifact import write_artifact
from syn_ray.core.storage import Storage
from syn_ray.evaluate.evaluation import Classification, Evaluation
from syn_ray.evaluate.judge import DecodedSets
from syn_ray.shards.decode import decode_images
from syn_ray.shards.manifest import Manifest, write_manifest
from syn_ray.shards.schema import Sample
from syn_ray.shards.writer import write_shard

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = 5
BYTES = IMAGES * 3 * 8 * 8
"""Of a set decoded to 8 px."""


def evaluation(tmp_path, number: int) -> Evaluation:
    """Of a set whose pictures and labels are all `number`."""
    fingerprint = f"{number}" * 64
    directory = Storage(tmp_path / "images" / f"set-{number}")
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), number, np.uint8)).save(buffer, "PNG")
    samples = [Sample(i, buffer.getvalue(), number, "", 0) for i in range(IMAGES)]
    manifest = Manifest(name=f"set-{number}", fingerprint=fingerprint, shard_size=IMAGES, batch_size=1)
    entry = write_shard(directory, samples, provenance={"fingerprint": fingerprint, "batch_size": 1})
    write_manifest(directory, manifest.with_shards([entry]))
    write_artifact(
        directory,
        kind="images",
        name=manifest.name,
        fingerprint=fingerprint,
        config={},
        seconds=0.0,
        result={"rows": IMAGES},
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
    both = [evaluation(tmp_path, number) for number in (1, 2)]
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
    one = evaluation(tmp_path, 1)
    for _ in range(2):
        assert sets.get(one, "8", small)[0].shape[-1] == 8
        assert sets.get(one, "12", large)[0].shape[-1] == 12
    assert (small.times, large.times) == (1, 1)
