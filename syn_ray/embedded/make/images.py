"""Packs Fashion-MNIST into shards with captions, and notes which validation images the classifier gets wrong.

Run after `make.classifier`: `python -m syn_ray.embedded.make.images --data DIR`; it takes about a minute.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from syn_ray.core.artifact import write_artifact
from syn_ray.core.config import fingerprint_of
from syn_ray.core.storage import Storage
from syn_ray.embedded import ASSETS, CLASS_NAMES, record_revision
from syn_ray.embedded.captions import make_captions
from syn_ray.embedded.make.idx import DEFAULT_DATA, TRAIN_SPLITS, FashionMnist, load_fashion
from syn_ray.score.config import ScoreConfig
from syn_ray.score.features import ScoringClassifier
from syn_ray.shards.manifest import Manifest, write_manifest
from syn_ray.shards.schema import Sample
from syn_ray.shards.writer import write_shard

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARD_SIZE = 5000


def main() -> None:
    """Packs all stored sets, then notes the adversarial one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with Fashion-MNIST's four idx files")
    fashion = load_fashion(parser.parse_args().data)
    for name, part in TRAIN_SPLITS.items():
        _pack(name, fashion.train_images[part.start : part.stop], fashion.train_labels[part.start : part.stop])
    _pack("val", fashion.test_images, fashion.test_labels)
    _note_adversarial(fashion)


def _pack(name: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
    directory = Storage(ASSETS / "images" / name)
    directory.delete_directory()
    identity = {"data": "Fashion-MNIST (MIT licence), padded to 32 px", "set": name}
    fingerprint = fingerprint_of("embedded images", identity)
    samples = list(_samples(images, labels))
    entries = [
        write_shard(
            directory,
            samples[start : start + SHARD_SIZE],
            provenance={"fingerprint": fingerprint, "class_names": list(CLASS_NAMES)} | identity,
        )
        for start in range(0, len(samples), SHARD_SIZE)
    ]
    manifest = Manifest(name=name, fingerprint=fingerprint, shard_size=SHARD_SIZE, batch_size=1)
    manifest = manifest.with_shards(entries)
    write_manifest(directory, manifest)
    result = {"rows": manifest.rows, "size_bytes": manifest.size_bytes, "refused": {}}
    write_artifact(
        directory, kind="images", name=name, fingerprint=fingerprint, config=identity, seconds=0.0, result=result
    )
    revision = record_revision(f"images/{name}")
    print(f"{name}: {manifest.rows} images, {manifest.size_bytes / 1e6:.1f} MB, revision {revision}")


def _samples(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Iterator[Sample]:
    captions = make_captions(images, labels)
    for index, (pixels, label, caption) in enumerate(zip(images, labels, captions, strict=True)):
        yield Sample(index, png(pixels), int(label), caption, None)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A grey PNG, packed as small as zlib can."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def _note_adversarial(fashion: FashionMnist) -> None:
    """The validation images that the reference classifier gets wrong, as ImageNet-A was chosen: stored by position."""
    classifier = ScoringClassifier(ScoreConfig(classifier="embedded:classifier"))
    batches = np.array_split(np.arange(len(fashion.test_images)), 100)
    predicted = np.concatenate([classifier.look([png(fashion.test_images[i]) for i in batch])[0] for batch in batches])
    wrong = np.flatnonzero(predicted != fashion.test_labels)
    (ASSETS / "classifier" / "adversarial.json").write_text(json.dumps(wrong.tolist()) + "\n")
    print(f"adversarial: {len(wrong)} of {len(predicted)} images, classifier revision {record_revision('classifier')}")


if __name__ == "__main__":
    main()
