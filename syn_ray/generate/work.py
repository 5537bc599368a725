"""A source while its images are made: what is there, what is missing, and when it is complete. No Ray here."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

from syn_ray.core.artifact import Artifact, read_artifact, write_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.pair_index import PairIndex, pairs_beside
from syn_ray.datasets.real import check_unchanged, images_revision
from syn_ray.generate.config import AnySource, EvaluationSource, RealSource, SyntheticSource, directory_name
from syn_ray.generate.pairs import needed_index, open_pairs_of
from syn_ray.generate.render import source_rows
from syn_ray.shards.manifest import (
    Manifest,
    ShardEntry,
    adopt_unlisted,
    drop_damaged,
    read_manifest,
    recover_start,
    write_manifest,
)

LARGEST_AUTO_SHARD = 1024
MANIFEST_SECONDS = 5.0
"""The manifest is rewritten at most this often; a shard that a crash leaves unlisted is adopted, not made again."""
DRAWS_NOISE_ON_DEVICE = {"muse"}
"""Families whose noise is another on another kind of device."""
OfImages = RealSource | EvaluationSource
"""Sources that copy real images."""


@dataclasses.dataclass(frozen=True)
class Request:
    """The first `dataset_size` samples of a source are wanted; None: all there are."""

    source: AnySource
    dataset_size: int | None = None


@dataclasses.dataclass
class Job:
    """A source while its shards are being made."""

    source: AnySource
    directory: Storage
    manifest: Manifest
    dataset_size: int
    total_rows: int | None
    artifact: Artifact | None
    made: int = 0
    refused: dict[str, int] = dataclasses.field(default_factory=dict)
    saved: float = 0.0

    def missing(self) -> list[int]:
        return self.manifest.missing(self.dataset_size)

    def rows(self, first_index: int) -> int:
        end = first_index + self.manifest.shard_size
        return (end if self.total_rows is None else min(end, self.total_rows)) - first_index

    def add(self, answer: dict[str, Any]) -> None:
        self.manifest = self.manifest.with_shards([ShardEntry.model_validate_json(answer["entry"])])
        self.made += 1
        for reason, count in json.loads(answer["refused"]).items():
            self.refused[reason] = self.refused.get(reason, 0) + count
        if time.monotonic() - self.saved > MANIFEST_SECONDS:
            write_manifest(self.directory, self.manifest)
            self.saved = time.monotonic()


def open_job(
    request: Request,
    images: Storage,
    resources: GenerateResources,
    choose_batch_size: Callable[[], int],
    device: str | None = None,
) -> Job:
    """Opens or starts a source's directory.

    Args:
        request: the source.
        images: the `images/` directory of the storage.
        resources: fix the shard size of a source that is started.
        choose_batch_size: asked for a source that is started; one that is there keeps its own.
        device: the kind of device that actors draw on, `cuda` or `cpu`.

    Raises:
        UserError: a directory that belongs to another source, an edited artifact, a real source or pairs that are too
            few, pairs that are not indexed, a source that was begun on another kind of device and cannot go on here.
    """
    source = request.source
    directory = images / directory_name(source)
    artifact = read_artifact(directory, source.fingerprint)
    total, what = _total_rows(source, images, artifact, request.dataset_size)
    if total is not None:
        _check_size(request, total, what)
    dataset_size = request.dataset_size or total
    assert dataset_size is not None
    manifest = read_manifest(directory, source.fingerprint)
    found = manifest or recover_start(directory, _start(source, dataset_size, resources, choose_batch_size(), device))
    intact = drop_damaged(directory, found, resources.check_bytes)
    adopted = adopt_unlisted(directory, intact, {shard.name for shard in found.shards}, total)
    if adopted.missing(dataset_size):
        check_images(source, adopted)
    if adopted != manifest:
        write_manifest(directory, adopted)
    device_change(source, adopted, dataset_size, device)
    return Job(source, directory, adopted, dataset_size, total, artifact)


def check_pairs(request: Request, images: Storage) -> None:
    """Raises a UserError where a source asks for more pairs than there are, as far as that is known."""
    if isinstance(request.source, OfImages) or request.dataset_size is None:
        return
    pairs = open_pairs_of(request.source, pairs_beside(images))
    if pairs is not None and pairs.complete:
        _check_size(request, pairs.rows, "pairs")


def _check_size(request: Request, total: int, what: str) -> None:
    if request.dataset_size is not None and request.dataset_size > total:
        raise UserError(
            f"dataset size {request.dataset_size} is beyond '{request.source.name}', which has {total} {what}; "
            f"give at most {total}"
        )


def needed_pairs(
    request: Request, images: Storage, resources: GenerateResources
) -> tuple[PairIndex, int | None] | None:
    """The index of pairs that must be there before a job is opened, and for how many; None where there is none."""
    source = request.source
    manifest = read_manifest(images / directory_name(source), source.fingerprint)
    shard_size = manifest.shard_size if manifest else _shard_size(request.dataset_size, resources)
    return needed_index(source, request.dataset_size, shard_size)


def _total_rows(
    source: AnySource, images: Storage, artifact: Artifact | None, wanted: int | None
) -> tuple[int | None, str]:
    """How many samples there are, and of what; None where there is no end, or where it is not known yet."""
    if isinstance(source, RealSource | EvaluationSource):
        return total_rows(source, artifact, wanted), "class-balanced images"
    pairs = open_pairs_of(source, pairs_beside(images))
    return (pairs.rows if pairs is not None and pairs.complete else None), "pairs"


def total_rows(source: RealSource | EvaluationSource, artifact: Artifact | None, wanted: int | None) -> int:
    """How many samples a source of real images has.

    By its artifact where that holds what is wanted (None: all), so that the images themselves need not be on this
    machine; otherwise they are counted.
    """
    if artifact is not None:
        rows = int(artifact.result["rows"])
        if isinstance(source, EvaluationSource) or (wanted is not None and wanted <= rows):
            return rows
    return source_rows(source)


def device_change(source: AnySource, manifest: Manifest, dataset_size: int, device: str | None) -> str | None:
    """What is to be said where a source was begun on one kind of device and is drawn to its end on another.

    Raises:
        UserError: the rest would be drawn with other noise.
    """
    if manifest.device is None or manifest.device == device or not manifest.missing(dataset_size):
        return None
    what = f"source '{source.name}' was begun on {manifest.device} and would go on here on {device}"
    if isinstance(source, SyntheticSource) and source.generator.family in DRAWS_NOISE_ON_DEVICE:
        raise UserError(
            f"{what}; {source.generator.family} draws its noise on the device, so its images would be others: go on "
            f"with it on {manifest.device}, or give the study another seed"
        )
    return f"{what}: the same seeds and noise, but images that differ by float rounding"


def _shard_size(dataset_size: int | None, resources: GenerateResources) -> int:
    if resources.shard_size != "auto":
        return resources.shard_size
    return min(dataset_size or LARGEST_AUTO_SHARD, LARGEST_AUTO_SHARD)


def _start(
    source: AnySource, dataset_size: int, resources: GenerateResources, batch_size: int, device: str | None
) -> Manifest:
    """A new source's manifest: what is fixed now and kept when the source grows."""
    return Manifest(
        name=source.name,
        fingerprint=source.fingerprint,
        shard_size=_shard_size(dataset_size, resources),
        batch_size=batch_size,
        kernels=resources.kernels if isinstance(source, SyntheticSource) else {},
        device=device if isinstance(source, SyntheticSource) else None,
        images_revision=images_revision(source.images, source.classes) if isinstance(source, OfImages) else None,
    )


def check_images(source: AnySource, manifest: Manifest) -> None:
    """Raises a UserError where a source was begun with other real images than its folder holds now."""
    if isinstance(source, OfImages):
        what = f"source '{source.name}'"
        check_unchanged(source.images, source.classes, manifest.images_revision, what)


def complete_job(job: Job, seconds: float) -> Artifact:
    """Writes the manifest and, last, the artifact."""
    job.manifest.prefix(job.dataset_size)
    rows = job.manifest.leading_rows
    if job.artifact is not None and job.artifact.result["rows"] == rows and not job.made:
        return job.artifact
    write_manifest(job.directory, job.manifest)
    earlier = job.artifact.seconds if job.artifact else 0.0
    refused = dict(job.artifact.result["refused"]) if job.artifact else {}
    for reason, count in job.refused.items():
        refused[reason] = refused.get(reason, 0) + count
    return write_artifact(
        job.directory,
        kind="images",
        name=job.source.name,
        fingerprint=job.source.fingerprint,
        config=job.source.model_dump(mode="json"),
        seconds=earlier + seconds,
        result={"rows": rows, "size_bytes": job.manifest.size_bytes, "refused": refused},
    )
