"""The index of image-text pairs in files, `pairs/<name>-<fingerprint8>/`: which pair every sample is. No Ray.

Files are taken in a seeded order and samples in a seeded order inside each. Shard number `n` of the index lists the
whole samples of the `n`-th file in that order, so that sample `i` is row `i` of all shards together, and the first D
pairs need the first few files only. Who indexes which file, and when, does not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pydantic

from syn_ray.core.artifact import Artifact, read_artifact
from syn_ray.core.config import Config
from syn_ray.core.errors import ShardError
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import FilePairs
from syn_ray.datasets.image_text import IndexedFile, seeded_rows
from syn_ray.datasets.pair_files import PairFile

FILES = "files.json"
"""The files in their order, with sizes: written when an index is started, compared when it grows."""
FACTS_KEY = b"syn_ray"


def pairs_beside(directory: Storage) -> Storage:
    """The `pairs/` directory of the storage in which a directory `images/` or `prompts/` is."""
    return directory.parent / "pairs"


class PairIndex(Config):
    """What an index depends on; how many pairs are held out is not part of it."""

    pairs: Annotated[FilePairs, pydantic.Field(discriminator="kind")]
    study_seed: int

    @pydantic.field_validator("pairs")
    @classmethod
    def _all_pairs(cls, pairs: FilePairs) -> FilePairs:
        return pairs.model_copy(update={"held_out": 0})

    @property
    def directory_name(self) -> str:
        """Its directory under `pairs/`."""
        return f"{self.pairs.name}-{self.fingerprint[:8]}"


class IndexEntry(pydantic.BaseModel):
    """One listed shard of an index: the pairs of one file."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    place: int
    """The file's number in the seeded order."""
    rows: int
    skipped: dict[str, int]
    size_bytes: int
    """Of the shard."""
    sha256: str

    @property
    def name(self) -> str:
        return entry_name(self.place)


def entry_name(place: int) -> str:
    """The name that the shard of a file always gets."""
    return f"file-{place:08d}.parquet"


def entries_of(artifact: Artifact) -> list[IndexEntry]:
    """The shards that an index lists, by place."""
    return [IndexEntry.model_validate(entry) for entry in artifact.result["entries"]]


def leading(entries: Sequence[IndexEntry]) -> list[IndexEntry]:
    """The shards, sorted by place, up to the first file that is not indexed."""
    return [entry for number, entry in enumerate(entries) if entry.place == number]


def is_indexed(index: PairIndex, wanted: int | None, pairs: Storage) -> bool:
    """Whether the first `wanted` pairs (None: all) are indexed; the pairs themselves need not be there.

    Args:
        index: which index.
        wanted: how many pairs.
        pairs: the `pairs/` directory of the storage.
    """
    directory = pairs / index.directory_name
    artifact = read_artifact(directory, index.fingerprint)
    if artifact is None:
        return False
    entries, sizes = entries_of(artifact), sizes_in(directory)
    whole = all(sizes.get(entry.name) == entry.size_bytes for entry in entries)
    enough = wanted is not None and artifact.result["rows"] >= wanted
    return whole and (enough or bool(artifact.result["complete"]))


def write_entry(directory: Storage, index: PairIndex, place: int, file: str, indexed: IndexedFile) -> IndexEntry:
    """Writes the shard of a file, whole or not at all."""
    facts = {"fingerprint": index.fingerprint, "place": place, "file": file, "skipped": dict(indexed.skipped)}
    table = seeded_rows(indexed, index.study_seed, file)
    sink = pa.BufferOutputStream()
    metadata = {FACTS_KEY: json.dumps(facts, sort_keys=True).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd", write_statistics=False)
    data = sink.getvalue().to_pybytes()
    directory.write_bytes(entry_name(place), data)
    return _entry(data, facts, table.num_rows)


def read_entry(directory: Storage, entry: IndexEntry) -> pa.Table:
    """The rows of a shard.

    Raises:
        ShardError: the file is not what was written.
    """
    data = directory.read_bytes(entry.name) if directory.exists(entry.name) else b""
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ShardError(f"{directory.display}/{entry.name}: it is not what was written; delete it and run again")
    return pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)


def adopt_entry(directory: Storage, index: PairIndex, place: int) -> IndexEntry | None:
    """The entry of a shard that a killed run wrote and did not list; None where it is damaged or another index's."""
    data = directory.read_bytes(entry_name(place))
    try:
        table = pq.read_table(pa.BufferReader(data))
        facts = json.loads(table.schema.metadata[FACTS_KEY])
    except (pa.ArrowException, OSError, KeyError, TypeError):
        return None
    same = facts["fingerprint"] == index.fingerprint and facts["place"] == place
    return _entry(data, facts, table.num_rows) if same else None


def write_files(directory: Storage, files: Sequence[PairFile]) -> None:
    """Writes the list of an index's files."""
    directory.write_bytes(FILES, json.dumps([[file.name, file.size_bytes] for file in files], indent=0).encode())


def read_files(directory: Storage) -> list[PairFile] | None:
    """The files of an index in their order; None where it was never started."""
    if not directory.exists(FILES):
        return None
    return [PairFile(name, size) for name, size in json.loads(directory.read_bytes(FILES))]


def sizes_in(directory: Storage) -> dict[str, int]:
    """The sizes of the files of a directory, asked for all at once."""
    infos = directory.filesystem.get_file_info(pafs.FileSelector(directory.path(), allow_not_found=True))
    return {info.base_name: info.size for info in infos if info.type == pafs.FileType.File}


def _entry(data: bytes, facts: Mapping[str, Any], rows: int) -> IndexEntry:
    return IndexEntry(
        place=facts["place"],
        rows=rows,
        skipped=facts["skipped"],
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
