"""Prompts that a model writes, kept as Parquet under `prompts/<kind>-<fingerprint8>/`: what is there, what is missing.

Work is counted in *places*: for `word2sen` a place is a class, for captions a sample of the source, so that a study
asks for the captions of its first samples only and may ask for more later. A shard holds consecutive places. No Ray.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from syn_ray.core.artifact import Artifact, read_artifact, write_artifact
from syn_ray.core.config import Config
from syn_ray.core.errors import ShardError, UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import FolderImages, is_at_hand
from syn_ray.datasets.real import check_unchanged, class_orders, images_revision, open_images
from syn_ray.datasets.vocabulary import Classes, class_names
from syn_ray.prompts.config import ModelCaptions, Word2Sen
from syn_ray.prompts.prompt_set import PromptSet
from syn_ray.shards.manifest import (
    Manifest,
    ShardEntry,
    drop_damaged,
    read_manifest,
    shard_name,
    write_manifest,
)

SCHEMA = pa.schema([("label", pa.int32()), ("visit", pa.int64()), ("text", pa.string())])
"""`visit`: the class's samples number `visit`, `visit + period`, ... take the text."""
CLASSES_PER_SHARD = 8
SAMPLES_PER_SHARD = 512


def prompts_beside(source: Storage) -> Storage:
    """The `prompts/` directory of the storage in which a source's directory is, `images/<source>`."""
    return source.parent.parent / "prompts"


class WrittenSet(Config):
    """What the texts that a model writes depend on."""

    prompts: Annotated[ModelCaptions | Word2Sen, pydantic.Field(discriminator="kind")]
    classes: Classes
    study_seed: int

    @property
    def directory_name(self) -> str:
        """Its directory under `prompts/`."""
        return f"{self.prompts.kind}-{self.fingerprint[:8]}"


@dataclasses.dataclass
class PromptJob:
    """A set while its shards are being written."""

    written: WrittenSet
    directory: Storage
    manifest: Manifest
    places: int
    """Places asked for."""
    periods: list[int] | None
    """Captions: the images of each class."""
    artifact: Artifact | None

    def missing(self) -> list[int]:
        return self.manifest.missing(self.places)

    def add(self, entry: ShardEntry) -> None:
        """Lists a shard at once: texts are few, and dear."""
        self.manifest = self.manifest.with_shards([entry])
        write_manifest(self.directory, self.manifest)


def open_job(
    written: WrittenSet, dataset_size: int, prompts: Storage, resources: GenerateResources, batch_size: int
) -> PromptJob:
    """Opens or starts a set's directory.

    Args:
        written: the set.
        dataset_size: the samples that need prompts.
        prompts: the `prompts/` directory of the storage.
        resources: says the shard size of a set that is started; a set keeps the one it has, and its batch size.
        batch_size: of a set that is started.

    Raises:
        UserError: images that are not there, a class without images, a directory of another set.
    """
    directory = prompts / written.directory_name
    periods = None
    places = len(class_names(written.classes))
    default = CLASSES_PER_SHARD
    if isinstance(written.prompts, ModelCaptions):
        periods = [len(order) for order in image_orders(written)]
        places = min(dataset_size, max(periods) * places)
        default = SAMPLES_PER_SHARD
    artifact = read_artifact(directory, written.fingerprint)
    shard_size = default if resources.shard_size == "auto" else resources.shard_size
    manifest = read_manifest(directory, written.fingerprint)
    started = manifest or Manifest(
        name=written.prompts.kind,
        fingerprint=written.fingerprint,
        shard_size=shard_size,
        batch_size=batch_size,
        images_revision=_images_revision(written),
    )
    intact = drop_damaged(directory, started, resources.check_bytes)
    if intact.missing(places):
        check_images(written, intact)
    if manifest is not None and intact != manifest:
        write_manifest(directory, intact)  # what is damaged is forgotten, also beyond the places asked for
    return PromptJob(written, directory, intact, places, periods, artifact)


def check_images(written: WrittenSet, manifest: Manifest) -> None:
    """Raises a UserError where captions were begun with other images than the folder holds now."""
    if isinstance(written.prompts, ModelCaptions):
        what = f"prompts '{written.prompts.kind}'"
        check_unchanged(written.prompts.images, written.classes, manifest.images_revision, what)


def _images_revision(written: WrittenSet) -> str | None:
    config = written.prompts
    return images_revision(config.images, written.classes) if isinstance(config, ModelCaptions) else None


def complete_job(job: PromptJob, seconds: float) -> Artifact:
    """Writes the artifact, last; one that says the same is left alone."""
    assert not job.missing()
    places = len(job.manifest.shards) * job.manifest.shard_size
    result = {"places": places, "rows": job.manifest.rows, "periods": job.periods}
    if job.artifact is not None and job.artifact.result == result:
        return job.artifact
    return write_artifact(
        job.directory,
        kind="prompts",
        name=job.written.prompts.kind,
        fingerprint=job.written.fingerprint,
        config=job.written.model_dump(mode="json"),
        seconds=seconds + (job.artifact.seconds if job.artifact else 0.0),
        result=result,
    )


def image_orders(written: WrittenSet) -> list[npt.NDArray[np.int64]]:
    """The images of each class in the order in which its samples take their captions.

    All of them: a balanced real source ends with the smallest class, its captions go on.

    Raises:
        UserError: a class has none.
    """
    assert isinstance(written.prompts, ModelCaptions)
    names = class_names(written.classes)
    images = open_images(written.prompts.images, written.classes)
    orders = class_orders(images.labels, len(names), written.study_seed)
    empty = [label for label, order in enumerate(orders) if not len(order)]
    if empty:
        raise UserError(
            f"prompts 'model_captions': class {empty[0]} ('{names[empty[0]]}') has no image in "
            f"'{written.prompts.images.name}'; give images of all {len(names)} classes"
        )
    return orders


def write_texts(directory: Storage, first_place: int, rows: list[tuple[int, int, str]]) -> ShardEntry:
    """Writes a shard, whole or not at all: rows of label, visit and text, in order."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=SCHEMA), sink, compression="zstd", write_statistics=False)
    data = sink.getvalue().to_pybytes()
    name = shard_name(first_place)
    directory.write_bytes(name, data)
    return ShardEntry(
        name=name,
        first_index=first_place,
        rows=len(rows),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def is_written(written: WrittenSet, dataset_size: int, prompts: Storage) -> bool:
    """Whether the prompts of the first `dataset_size` samples are there, undamaged; needs neither images nor model."""
    directory = prompts / written.directory_name
    artifact = read_artifact(directory, written.fingerprint)
    manifest = read_manifest(directory, written.fingerprint)
    if artifact is None or manifest is None or drop_damaged(directory, manifest, manifest.size_bytes) != manifest:
        return False
    periods = artifact.result["periods"]
    places = min(dataset_size, max(periods) * len(periods)) if periods else len(class_names(written.classes))
    return not manifest.missing(places)


def lacking(written: WrittenSet) -> str | None:
    """What this machine lacks to write a set, in words; None where it has the images and the model."""
    from huggingface_hub import try_to_load_from_cache

    config = written.prompts
    images = config.images if isinstance(config, ModelCaptions) else None
    if isinstance(images, FolderImages) and not is_at_hand(images):
        return f"the images '{images.path}' are not on this machine"
    if Path(config.model.model_id).is_dir():
        return None
    if isinstance(try_to_load_from_cache(config.model.model_id, "config.json", revision=config.model.revision), str):
        return None
    return f"the model is not on this machine (`hf download {config.model.model_id}`)"


def read_written(written: WrittenSet, prompts: Storage | None) -> PromptSet:
    """A set that a model has written.

    Raises:
        UserError: it is not there.
        ShardError: a file is not what was written.
    """
    names = class_names(written.classes)
    directory = None if prompts is None else prompts / written.directory_name
    artifact = None if directory is None else read_artifact(directory, written.fingerprint)
    manifest = None if directory is None else read_manifest(directory, written.fingerprint)
    if directory is None or artifact is None or manifest is None:
        raise UserError(
            f"prompts '{written.prompts.kind}' are not written yet by {written.prompts.model.model_id}; "
            "run `syn-ray prompts` for the study"
        )
    texts: list[list[str]] = [[] for _ in names]
    for shard in _up_to_a_gap(manifest):
        for label, text in _read_shard(directory, shard):
            caption = f"{names[label]}, {text}" if text else names[label]  # a model may have seen nothing
            texts[label].append(caption if artifact.result["periods"] else text)
    periods = artifact.result["periods"]
    return PromptSet(tuple(map(tuple, texts)), tuple(periods) if periods else None)


def _up_to_a_gap(manifest: Manifest) -> list[ShardEntry]:
    """The first shards: what comes after one that is missing would be taken for what comes in its place."""
    return [shard for n, shard in enumerate(manifest.shards) if shard.first_index == n * manifest.shard_size]


def _read_shard(directory: Storage, shard: ShardEntry) -> list[tuple[int, str]]:
    data = directory.read_bytes(shard.name)
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise ShardError(f"{directory.display}/{shard.name}: it is not what was written; delete it and run again")
    table = pq.read_table(pa.BufferReader(data))
    return list(zip(table["label"].to_pylist(), table["text"].to_pylist(), strict=True))
