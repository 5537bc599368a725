"""What stands in a shard.

Hugging Face `datasets` and the Hub viewer show the files as images with labels and text: the image column is their
`Image` struct, and the schema's metadata names the features.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [
        ("sample_index", pa.int64()),
        ("image", IMAGE),
        ("label", pa.int32()),
        ("text", pa.string()),
        ("seed", pa.int64()),
    ]
)
SECOND = "image_second"
"""A further column of type `IMAGE`, in the shards of a source that keeps two sizes."""
ROW_GROUP_ROWS = 100
"""Rows in a row group: a viewer or a reader of one sample fetches about 10 MB at 512 px."""
PROVENANCE_KEY = b"syn_ray"
CRC_KEY = b"syn_ray_image_crc32"
HUGGINGFACE_KEY = b"huggingface"


@dataclasses.dataclass(frozen=True)
class Sample:
    """One labelled image: its position in the source, the encoded file, class, prompt or caption, and noise seed."""

    sample_index: int
    image: bytes
    label: int | None
    text: str | None
    seed: int | None
    second: bytes | None = None
    """The same image in another size, where two are wanted."""


def image_extension(image: bytes) -> str:
    """`png` or `jpg`, from the file's first bytes."""
    return "png" if image.startswith(b"\x89PNG") else "jpg"


def to_table(samples: Sequence[Sample]) -> pa.Table:
    """The samples as a table of `SCHEMA`, with the column `SECOND` where they come in two sizes; without metadata."""
    rows = [
        {
            "sample_index": s.sample_index,
            "image": _image(s.sample_index, s.image),
            "label": s.label,
            "text": s.text,
            "seed": s.seed,
        }
        for s in samples
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if samples[0].second is None:
        return table
    second = [None if s.second is None else _image(s.sample_index, s.second) for s in samples]
    return table.append_column(SECOND, pa.array(second, type=IMAGE))


def _image(sample_index: int, image: bytes) -> dict[str, Any]:
    return {"bytes": image, "path": f"{sample_index:08d}.{image_extension(image)}"}


def huggingface_features(columns: Sequence[str]) -> bytes:
    """The metadata by which the Hugging Face `datasets` library knows which columns hold images."""

    def value(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "_type": "Value"}

    features = {
        "sample_index": value("int64"),
        "image": {"_type": "Image"},
        "label": value("int32"),
        "text": value("string"),
        "seed": value("int64"),
        SECOND: {"_type": "Image"},
    }
    return json.dumps({"info": {"features": {name: features[name] for name in columns}}}).encode()
