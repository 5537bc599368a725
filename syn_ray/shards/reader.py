"""Reads samples back: a prefix of a source, one sample, or a shard's provenance. Always by the manifest's list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from syn_ray.core.errors import ShardError, UserError
from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import Manifest, ShardEntry, read_manifest
from syn_ray.shards.schema import PROVENANCE_KEY, SCHEMA


def read_shard(directory: Storage, shard: ShardEntry, columns: Sequence[str] | None = None) -> pa.Table:
    """One shard's rows, with page checksums compared.

    Raises:
        ShardError: the file is gone, cut off, or does not hold the samples that the manifest lists.
        UserError: it holds a prompt set.
    """
    where = f"{directory.display}/{shard.name}"
    try:
        table = pq.read_table(
            directory.path(shard.name),
            columns=None if columns is None else list(dict.fromkeys(["sample_index", *columns])),
            filesystem=directory.filesystem,
            page_checksum_verification=True,
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise ShardError(f"{where} cannot be read: {str(error).splitlines()[0]}; run generate again") from None
    if table.num_rows != shard.rows:
        raise ShardError(
            f"{where}: {table.num_rows} rows, the manifest lists {shard.rows}; delete it, run generate again"
        )
    if "sample_index" not in table.column_names:
        raise UserError(f"'{directory.display}' holds texts and no images; give a directory under images/")
    last = shard.first_index + shard.rows - 1
    if table["sample_index"].to_pylist() != list(range(shard.first_index, last + 1)):
        raise ShardError(f"{where}: its samples are not {shard.first_index} to {last}; delete it, run generate again")
    asked = table if columns is None else table.select(list(columns))
    return asked.replace_schema_metadata(None)


def read_samples(
    directory: Storage, manifest: Manifest, dataset_size: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """The first `dataset_size` samples in order: the dataset of size D."""
    tables = [read_shard(directory, shard, columns) for shard in manifest.prefix(dataset_size)]
    return pa.concat_tables(tables).slice(0, dataset_size)


def open_source(directory: Storage) -> Manifest:
    """The manifest of a source that must be there.

    Raises:
        UserError: the directory holds no source.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise UserError(f"'{directory.display}' holds no shards (no manifest.json); give a directory under images/")
    return manifest


def read_sample(directory: Storage, sample_index: int) -> dict[str, Any]:
    """One sample as a dictionary of the columns of `SCHEMA`."""
    manifest = open_source(directory)
    for shard in manifest.shards:
        if shard.first_index <= sample_index < shard.first_index + shard.rows:
            table = read_shard(directory, shard)
            row = table.filter(pc.equal(table["sample_index"], sample_index)).to_pylist()[0]
            return {name: row[name] for name in SCHEMA.names}
    raise UserError(f"--index {sample_index}: source '{manifest.name}' holds samples 0 to {manifest.rows - 1}")


def read_provenance(directory: Storage, shard: ShardEntry) -> dict[str, Any]:
    """How the images of a shard came to be.

    Raises:
        ShardError: it does not say so.
    """
    try:
        schema = pq.read_schema(directory.path(shard.name), filesystem=directory.filesystem)
        provenance: dict[str, Any] = json.loads(schema.metadata[PROVENANCE_KEY])
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
        where = f"{directory.display}/{shard.name}"
        raise ShardError(f"{where}: it does not say how it was made; delete it, run generate again") from None
    return provenance
