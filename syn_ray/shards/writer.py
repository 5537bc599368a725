"""Writes a shard: one Parquet file, whole or not there, with the same bytes for the same samples."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import ShardEntry, shard_name
from syn_ray.shards.schema import (
    CRC_KEY,
    HUGGINGFACE_KEY,
    PROVENANCE_KEY,
    ROW_GROUP_ROWS,
    SCHEMA,
    SECOND,
    Sample,
    huggingface_features,
    to_table,
)

UNCOMPRESSED = {"image.bytes", f"{SECOND}.bytes"}


def write_shard(
    directory: Storage,
    samples: Sequence[Sample],
    *,
    provenance: dict[str, Any],
) -> ShardEntry:
    """Writes consecutive samples under the name of their index range.

    Args:
        directory: the source's directory.
        samples: in order of `sample_index`, without gaps.
        provenance: how the images came to be; must hold the source's `fingerprint`, and nothing that differs between
            two runs (no time, no host), so that a shard made again has the same bytes.

    Returns:
        The manifest's entry for the file.
    """
    first_index = samples[0].sample_index
    table = to_table(samples)
    metadata = {
        PROVENANCE_KEY: json.dumps(provenance, sort_keys=True).encode(),
        CRC_KEY: json.dumps([zlib.crc32(sample.image) for sample in samples]).encode(),
        HUGGINGFACE_KEY: huggingface_features(table.column_names),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression={path: "none" if path in UNCOMPRESSED else "zstd" for path in _leaves(table.schema)},
        use_dictionary=["text"],
        write_statistics=[name for name in SCHEMA.names if name in {"sample_index", "label"}],
        write_page_checksum=True,
    )
    data = sink.getvalue().to_pybytes()
    name = shard_name(first_index)
    directory.write_bytes(name, data)
    return ShardEntry(
        name=name,
        first_index=first_index,
        rows=len(samples),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _leaves(schema: pa.Schema) -> list[str]:
    """Paths of the columns as Parquet stores them: a struct's fields apart."""
    structs = {field.name: field.type for field in schema if pa.types.is_struct(field.type)}
    return [
        path
        for name in schema.names
        for path in ([f"{name}.{inner.name}" for inner in structs[name]] if name in structs else [name])
    ]
