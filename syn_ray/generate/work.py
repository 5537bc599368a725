"""A source while its images are made: what is there, what is missing, and when it is complete. No Ray here."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

from syn_ray.core.artifact import Artifact, read_artifact, write_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.real import check_unchanged, images_revision
from syn_ray.generate.config import EvaluationSource, RealSource, SyntheticSource, directory_name
from syn_ray.generate.render import source_rows
from syn_ray.shards.manifest import (
    Manifest,
    ShardEntry,
    adopt_unlisted,
    drop_damaged,
    read_manifest,
    write_manifest,
)

LARGEST_AUTO_SHARD = 1024
MANIFEST_SECONDS = 5.0
"""The manifest is rewritten at most this often; a shard that a crash leaves unlisted is adopted, not made again."""

AnySource = SyntheticSource | RealSource | EvaluationSource
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


def open_job(request: Request, images: Storage, resources: GenerateResources, batch_size: int) -> Job:
    """Opens or starts a source's directory.

    Raises:
        UserError: a directory that belongs to another source, an edited artifact, a real source that is too small.
    """
    source = request.source
    directory = images / directory_name(source)
    total = None if isinstance(source, SyntheticSource) else source_rows(source)
    if total is not None and request.dataset_size is not None and request.dataset_size > total:
        raise UserError(
            f"dataset size {request.dataset_size} is beyond '{source.name}', which has {total} class-balanced images; "
            f"give at most {total}"
        )
    dataset_size = request.dataset_size or total
    assert dataset_size is not None
    artifact = read_artifact(directory, source.fingerprint)
    manifest = read_manifest(directory, source.fingerprint)
    found = manifest or _start(source, dataset_size, resources, batch_size)
    intact = drop_damaged(directory, found, resources.check_bytes)
    adopted = adopt_unlisted(directory, intact, damaged={shard.name for shard in found.shards})
    if adopted.missing(dataset_size):
        check_images(source, adopted)
    if adopted != manifest:
        write_manifest(directory, adopted)
    return Job(source, directory, adopted, dataset_size, total, artifact)


def _start(source: AnySource, dataset_size: int, resources: GenerateResources, batch_size: int) -> Manifest:
    """A new source's manifest: what is fixed now and kept when the source grows."""
    shard_size = min(dataset_size, LARGEST_AUTO_SHARD) if resources.shard_size == "auto" else resources.shard_size
    return Manifest(
        name=source.name,
        fingerprint=source.fingerprint,
        shard_size=shard_size,
        batch_size=batch_size,
        kernels=resources.kernels if isinstance(source, SyntheticSource) else {},
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
    rows = job.manifest.rows
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
