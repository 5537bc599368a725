"""The list of a source's shards, `manifest.json`, with what was fixed when the source was started.

Shards are written first and listed after. A shard on disk that is not listed is whole (it appears only when whole), so
a restarted run reads it through once and lists it instead of making it again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.shards.schema import PROVENANCE_KEY, SCHEMA

MANIFEST = "manifest.json"


class ShardEntry(pydantic.BaseModel):
    """One listed shard: the samples `first_index` to `first_index + rows - 1`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: str
    first_index: int
    rows: int
    size_bytes: int
    sha256: str


class Manifest(pydantic.BaseModel):
    """A source's shards in order. All but the shards is fixed at the start, and kept when it is resumed or grown."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str
    shard_size: int
    batch_size: int
    kernels: dict[str, bool] = {}
    """The generator's settings that may move an image's last bit (`GenerateResources.kernels`)."""
    device: str | None = None
    """What draws the images, `cuda` or `cpu`; None for images that are copied, and where it was not noted."""
    images_revision: str | None = None
    """What the folder of real images held at the start (`datasets.real.images_revision`); None for other sources."""
    shards: tuple[ShardEntry, ...] = ()

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def leading_rows(self) -> int:
        """The samples from the first on without a gap: the largest dataset that is whole."""
        return self.available(max((shard.first_index + shard.rows for shard in self.shards), default=0))

    @property
    def size_bytes(self) -> int:
        return sum(shard.size_bytes for shard in self.shards)

    def with_shards(self, entries: list[ShardEntry]) -> Manifest:
        """A manifest that lists `entries` too; an entry for the same samples replaces the old one."""
        by_index = {shard.first_index: shard for shard in [*self.shards, *entries]}
        return self.model_copy(update={"shards": tuple(by_index[index] for index in sorted(by_index))})

    def without(self, names: set[str]) -> Manifest:
        return self.model_copy(update={"shards": tuple(s for s in self.shards if s.name not in names)})

    def wanted(self, dataset_size: int) -> list[int]:
        """First indices of the shards that hold the first `dataset_size` samples."""
        return list(range(0, dataset_size, self.shard_size))

    def fits(self, shard: ShardEntry, total_rows: int | None) -> bool:
        """Whether a shard lies where one of this source's may: it is full, or ends with the source's `total_rows`."""
        last = shard.rows < self.shard_size and shard.first_index + shard.rows == total_rows
        return shard.first_index % self.shard_size == 0 and (shard.rows == self.shard_size or last)

    def missing(self, dataset_size: int) -> list[int]:
        """First indices of the shards still to be made for `dataset_size` samples."""
        listed = {shard.first_index for shard in self.shards}
        return [index for index in self.wanted(dataset_size) if index not in listed]

    def available(self, dataset_size: int) -> int:
        """How many of the first `dataset_size` samples are there, up to the first gap."""
        missing = self.missing(dataset_size)
        end = missing[0] if missing else dataset_size
        return min(end, sum(shard.rows for shard in self.shards if shard.first_index < end))

    def prefix(self, dataset_size: int) -> list[ShardEntry]:
        """The shards of the first `dataset_size` samples, in order.

        Raises:
            UserError: one of them is not listed, or two hold the same samples.
        """
        shards = [shard for shard in self.shards if shard.first_index < dataset_size]
        missing = self.missing(dataset_size)
        covered = sum(shard.rows for shard in shards)
        if missing or covered < dataset_size:
            absent = shard_name(missing[0]) if missing else "the rest"
            raise UserError(
                f"source '{self.name}' lists {covered} of the first {dataset_size} samples, {absent} is missing; "
                "run generate again"
            )
        for one, following in itertools.pairwise(shards):
            if one.first_index + one.rows != following.first_index:
                raise UserError(
                    f"source '{self.name}' lists {one.name} of {one.rows} samples and then {following.name}, which do "
                    "not join; run generate again"
                )
        return shards


def shard_name(first_index: int) -> str:
    """The file name that a range of samples always gets."""
    return f"shard-{first_index:08d}.parquet"


def write_manifest(directory: Storage, manifest: Manifest) -> None:
    """Replaces the manifest as a whole."""
    directory.write_bytes(MANIFEST, json.dumps(manifest.model_dump(mode="json"), indent=1).encode())


def read_manifest(directory: Storage, fingerprint: str | None = None) -> Manifest | None:
    """The manifest of a source directory; None where the source was never started.

    Raises:
        UserError: it cannot be read, or belongs to another source than `fingerprint`.
    """
    if not directory.exists(MANIFEST):
        return None
    where = f"{directory.display}/{MANIFEST}"
    try:
        manifest = Manifest.model_validate_json(directory.read_bytes(MANIFEST))
    except pydantic.ValidationError:
        raise UserError(f"{where}: not a manifest; delete it and run generate again (whole shards are kept)") from None
    if fingerprint is not None and manifest.fingerprint != fingerprint:
        raise UserError(
            f"{where}: it belongs to source {manifest.fingerprint[:8]}, this directory to {fingerprint[:8]}; "
            "move it away and run generate again"
        )
    return manifest


def adopt_unlisted(
    directory: Storage, manifest: Manifest, damaged: set[str], total_rows: int | None = None
) -> Manifest:
    """Lists the whole shards on disk that a killed run wrote and did not list.

    Those that are not of this source, or were drawn in other shards, batches, kernels or on another device, are left
    out; so are the names in `damaged`, which are known or were listed. What is listed and does not lie where a shard of
    this manifest may is dropped: the next run makes those samples again.

    Args:
        directory: the source's.
        manifest: its list.
        damaged: names that are not adopted.
        total_rows: samples the source has; None where it has no end.
    """
    fitting = manifest.without({s.name for s in manifest.shards if not manifest.fits(s, total_rows)})
    known = {shard.name for shard in manifest.shards} | damaged
    unlisted = [name for name in _shard_files(directory) if name not in known]
    found = filter(None, (_examine(directory, name, manifest.fingerprint) for name in unlisted))
    alike = [entry for entry, drawn in found if _drawn_alike(manifest, drawn) and manifest.fits(entry, total_rows)]
    return fitting.with_shards(alike)


def recover_start(directory: Storage, start: Manifest) -> Manifest:
    """The manifest of a source whose list is lost, without shards: how those on disk were drawn, else `start`.

    Args:
        directory: the source's.
        start: what a source that is started now would have.
    """
    found = filter(None, (_examine(directory, name, start.fingerprint) for name in _shard_files(directory)))
    entry, drawn = next(found, (None, {}))
    if entry is None or "batch_size" not in drawn:
        return start
    kernels = {name: drawn.get("kernels", {}).get(name, value) for name, value in start.kernels.items()}
    kept = {"batch_size": drawn["batch_size"], "kernels": kernels, "device": drawn.get("device", start.device)}
    return start.model_copy(update={"shard_size": entry.rows, **kept})


def _shard_files(directory: Storage) -> list[str]:
    return [name for name in directory.files() if name.startswith("shard-")]


def _drawn_alike(manifest: Manifest, drawn: dict[str, Any]) -> bool:
    """Whether a shard with this provenance is what the manifest's settings give."""
    kernels = drawn.get("kernels", {})
    return (
        drawn.get("batch_size") == manifest.batch_size
        and all(kernels.get(name) == value for name, value in manifest.kernels.items())
        and (manifest.device is None or drawn.get("device") == manifest.device)
    )


def drop_damaged(directory: Storage, manifest: Manifest, check_bytes: int) -> Manifest:
    """A manifest without the shards that are gone or changed: the next run makes those again.

    The sha256 of each shard is compared where the source has at most `check_bytes` bytes, otherwise names and sizes.
    """
    deep = manifest.size_bytes <= check_bytes
    return manifest.without({shard.name for shard in manifest.shards if not _intact(directory, shard, deep)})


def _intact(directory: Storage, shard: ShardEntry, deep: bool) -> bool:
    if directory.size_bytes(shard.name) != shard.size_bytes:
        return False
    return not deep or hashlib.sha256(directory.read_bytes(shard.name)).hexdigest() == shard.sha256


def _examine(directory: Storage, name: str, fingerprint: str) -> tuple[ShardEntry, dict[str, Any]] | None:
    """The entry and the provenance of a shard on disk; None where it is not whole, or not of this source."""
    data = directory.read_bytes(name)
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        drawn = json.loads(table.schema.metadata[PROVENANCE_KEY])
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
        return None
    same = isinstance(drawn, dict) and drawn.get("fingerprint") == fingerprint
    if not same or table.schema.names[: len(SCHEMA)] != SCHEMA.names:
        return None
    indices = table["sample_index"].to_pylist()
    if not indices or shard_name(indices[0]) != name or indices != list(range(indices[0], indices[0] + len(indices))):
        return None
    digest = hashlib.sha256(data).hexdigest()
    entry = ShardEntry(name=name, first_index=indices[0], rows=len(indices), size_bytes=len(data), sha256=digest)
    return entry, drawn
