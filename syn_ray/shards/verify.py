"""Finds what is broken: missing or changed shards, wrong rows, images that do not decode."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import MANIFEST, ShardEntry, read_manifest
from syn_ray.shards.schema import CRC_KEY


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something broken, in words, with the place."""

    directory: Storage
    shard: str
    sample_index: int | None
    reason: str

    def __str__(self) -> str:
        sample = "" if self.sample_index is None else f", sample {self.sample_index}"
        return f"{self.directory.display}/{self.shard}{sample}: {self.reason}"


@dataclasses.dataclass
class Report:
    """What was looked at and what was found."""

    sources: int = 0
    shards: int = 0
    samples: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)


def source_directories(root: Storage) -> Iterator[Storage]:
    """The directories under `root` that hold a manifest, `root` included."""
    if root.exists(MANIFEST):
        yield root
        return
    for name in root.directories():
        yield from source_directories(root / name)


def verify(root: Storage) -> Report:
    """Looks at every shard below `root`: there, whole, right rows, right sums, every image decodes.

    Raises:
        UserError: there is no source below `root`.
    """
    report = Report()
    for directory in source_directories(root):
        manifest = read_manifest(directory)
        assert manifest is not None
        report.sources += 1
        for shard in manifest.shards:
            report.shards += 1
            report.samples += shard.rows
            report.problems += verify_shard(directory, shard)
    if report.sources == 0:
        raise UserError(
            f"'{root.display}' holds no source (no manifest.json below it); give a storage or an images/ directory"
        )
    return report


def verify_shard(directory: Storage, shard: ShardEntry) -> list[Problem]:
    """The problems of one shard; an empty list where it is what the manifest says."""
    if not directory.exists(shard.name):
        return [Problem(directory, shard.name, None, "the manifest lists it and it is not there; run generate again")]
    data = directory.read_bytes(shard.name)
    changed = hashlib.sha256(data).hexdigest() != shard.sha256
    problems = _examine(directory, shard, data)
    if changed and not problems:
        problems = [Problem(directory, shard.name, None, "its sha256 is not the manifest's; run generate again")]
    return problems


def _examine(directory: Storage, shard: ShardEntry, data: bytes) -> list[Problem]:
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=False)
        sums = json.loads(table.schema.metadata[CRC_KEY])
        indices = table["sample_index"].to_pylist()
        images = [image["bytes"] for image in table["image"].to_pylist()]
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [Problem(directory, shard.name, None, f"it cannot be read ({reason}); run generate again")]
    if indices != list(range(shard.first_index, shard.first_index + shard.rows)):
        reason = f"its samples are not {shard.first_index} to {shard.first_index + shard.rows - 1}; run generate again"
        return [Problem(directory, shard.name, None, reason)]
    problems = []
    for index, image, crc in zip(indices, images, sums, strict=True):
        damage = _damage(image, crc)
        if damage:
            problems.append(Problem(directory, shard.name, index, f"{damage}; run generate again"))
    return problems


def _damage(image: bytes, crc: int) -> str | None:
    if zlib.crc32(image) != crc:
        return "the image's bytes have changed"
    try:
        Image.open(io.BytesIO(image)).load()
    except (OSError, SyntaxError, ValueError) as error:
        return f"the image does not decode ({error})"
    return None
