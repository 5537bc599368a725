"""Finds what is broken: missing or changed shards, wrong rows, images that do not decode.

Prompts that a model wrote lie in shards too, which hold texts and no images; they are counted and read apart.
"""

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

from syn_ray.core.artifact import ARTIFACT, read_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import MANIFEST, Manifest, ShardEntry, read_manifest, shard_name
from syn_ray.shards.schema import CRC_KEY, SECOND

STUDIES = "studies"
"""The directory of a storage that holds no shards, and many files."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something broken, in words, with the place."""

    directory: Storage
    shard: str
    """The file's name: a shard's, or the manifest's or the artifact's."""
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
    texts: int = 0
    """Prompts that a model wrote."""
    problems: list[Problem] = dataclasses.field(default_factory=list)
    unfinished: list[Storage] = dataclasses.field(default_factory=list)
    """Directories without their artifact: work has begun there and is not done. No problem as such."""


def source_directories(root: Storage) -> Iterator[Storage]:
    """The directories under `root` that hold a manifest, `root` included."""
    if root.exists(MANIFEST):
        yield root
        return
    for name in root.directories():
        if name != STUDIES:
            yield from source_directories(root / name)


def verify(root: Storage) -> Report:
    """Looks at every shard below `root`: there, whole, right rows, right sums, every image decodes, none left out.

    Raises:
        UserError: there is no source below `root`.
    """
    report = Report()
    for directory in source_directories(root):
        report.sources += 1
        try:
            manifest = read_manifest(directory)
        except UserError as error:
            report.problems.append(_said_of(directory, MANIFEST, error))
            continue
        assert manifest is not None
        _verify_record(directory, manifest, report)
        for shard in manifest.shards:
            _verify_shard(directory, shard, report)
    if report.sources == 0:
        raise UserError(
            f"'{root.display}' holds no source (no manifest.json below it); give a storage or an images/ directory"
        )
    return report


def _verify_record(directory: Storage, manifest: Manifest, report: Report) -> None:
    """The artifact: there, unedited, and no gap in what it says is there."""
    try:
        artifact = read_artifact(directory, manifest.fingerprint)
    except UserError as error:
        report.problems.append(_said_of(directory, ARTIFACT, error))
        return
    if artifact is None:
        report.unfinished.append(directory)
        return
    complete = artifact.result.get("places", artifact.result.get("rows", 0))  # written prompts count places, not texts
    absent = manifest.missing(complete)
    if absent:
        more = f", nor {len(absent) - 1} more" if absent[1:] else ""
        reason = (
            f"the manifest does not list it{more}, and {ARTIFACT} says that {complete} are there; run generate again"
        )
        report.problems.append(Problem(directory, shard_name(absent[0]), None, reason))


def _said_of(directory: Storage, file: str, error: UserError) -> Problem:
    return Problem(directory, file, None, str(error).removeprefix(f"{directory.display}/{file}: "))


def _verify_shard(directory: Storage, shard: ShardEntry, report: Report) -> None:
    report.shards += 1
    if not directory.exists(shard.name):
        reason = "the manifest lists it and it is not there; run generate again"
        report.problems.append(Problem(directory, shard.name, None, reason))
        return
    data = directory.read_bytes(shard.name)
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=False)
        texts = "image" not in table.schema.names
        found = _examine_texts(table, shard) if texts else list(_examine_images(table, shard))
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        texts = False
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        found = [(None, f"it cannot be read ({reason})")]
    if not found and hashlib.sha256(data).hexdigest() != shard.sha256:
        found = [(None, "its sha256 is not the manifest's")]
    report.texts += shard.rows if texts else 0
    report.samples += 0 if texts else shard.rows
    remedy = "delete it and run again" if texts else "run generate again"
    report.problems += [Problem(directory, shard.name, index, f"{reason}; {remedy}") for index, reason in found]


def _examine_texts(table: pa.Table, shard: ShardEntry) -> list[tuple[int | None, str]]:
    return [] if table.num_rows == shard.rows else [(None, f"it has {table.num_rows} texts, not {shard.rows}")]


def _examine_images(table: pa.Table, shard: ShardEntry) -> Iterator[tuple[int | None, str]]:
    sums = json.loads(table.schema.metadata[CRC_KEY])
    indices = table["sample_index"].to_pylist()
    last = shard.first_index + shard.rows - 1
    if indices != list(range(shard.first_index, last + 1)):
        yield None, f"its samples are not {shard.first_index} to {last}"
        return
    for index, image, crc in zip(indices, table["image"].to_pylist(), sums, strict=True):
        damage = "the image's bytes have changed" if zlib.crc32(image["bytes"]) != crc else _damage(image["bytes"])
        if damage:
            yield index, damage
    if SECOND in table.schema.names:  # it has no sums of its own
        for index, image in zip(indices, table[SECOND].to_pylist(), strict=True):
            damage = _damage(image["bytes"])
            if damage:
                yield index, f"{SECOND}: {damage}"


def _damage(image: bytes) -> str | None:
    try:
        Image.open(io.BytesIO(image)).load()
    except (OSError, SyntaxError, ValueError) as error:
        return f"the image does not decode ({error})"
    return None
