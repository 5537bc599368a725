"""The samples of a Parquet file of image-text pairs, whole ones and others; and img2dataset's list of its failures."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from syn_ray.core.errors import UserError, nearest
from syn_ray.datasets.config import FilePairs, Img2datasetPairs, ParquetPairs
from syn_ray.datasets.pair_files import PairFile, PairRoot
from syn_ray.datasets.pair_samples import DAMAGED, PairSample, Skipped, caption_reason, image_reason

IMG2DATASET_IMAGES: tuple[str, ...] = ("jpg", "png", "webp")
"""Its column of images is called by their format."""
STATUS, SUCCESS = "status", "success"
ROWS = 256
"""Rows in memory at a time."""


def in_parquet(pairs: FilePairs) -> bool:
    """Whether the images lie in Parquet files."""
    return isinstance(pairs, ParquetPairs) or (isinstance(pairs, Img2datasetPairs) and pairs.output_format == "parquet")


def parquet_samples(
    pairs: FilePairs, root: PairRoot, file: PairFile, skipped: Skipped
) -> tuple[list[PairSample], tuple[int, ...]]:
    """The samples of a Parquet file, and how many each row group has.

    Raises:
        UserError: it has not these columns, or they hold something else.
    """
    samples = []
    with root.filesystem.open_input_file(root.path(file.name)) as raw:
        try:
            parquet = pq.ParquetFile(raw)
        except pa.ArrowInvalid:
            skipped[DAMAGED] += 1
            return [], ()
        columns = find_columns(pairs, file, parquet.schema_arrow)
        parts = tuple(parquet.metadata.row_group(part).num_rows for part in range(parquet.num_row_groups))
        for part in range(len(parts)):
            for position, (image, caption, status) in enumerate(_rows(parquet, part, columns)):
                failed = status if not image and status != SUCCESS else None
                problem = failed or image_reason(pairs, image) or caption_reason(caption)
                text = caption.strip() if problem is None else ""
                samples.append(PairSample("", text, part, position, None, None, problem))
    return samples, parts


def find_columns(pairs: FilePairs, file: PairFile, schema: pa.Schema) -> list[str]:
    """The names of the columns of images, of captions and, in what img2dataset wrote, of the status of each download.

    Raises:
        UserError: one of the two is missing, or holds something else.
    """
    images, text_column = IMG2DATASET_IMAGES, "caption"
    if isinstance(pairs, ParquetPairs):
        images, text_column = (pairs.image_column,), pairs.text_column
    more = [] if isinstance(pairs, ParquetPairs) else [STATUS]
    image_column = next((name for name in images if name in schema.names), images[0])
    where = f"pairs '{pairs.name}', file '{file.name}'"
    for name in (image_column, text_column, *more):
        if name not in schema.names:
            raise UserError(f"{where}: there is no column '{name}'{nearest(name, schema.names)}")
    image, text = schema.field(image_column).type, schema.field(text_column).type
    inner = image.field("bytes").type if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0 else image
    if not (pa.types.is_binary(inner) or pa.types.is_large_binary(inner)):
        raise UserError(f"{where}: column '{image_column}' is {image}; give binary, or a struct with binary 'bytes'")
    if not (pa.types.is_string(text) or pa.types.is_large_string(text)):
        raise UserError(f"{where}: column '{text_column}' is {text}; give strings")
    return [image_column, text_column, *more]


def image_column_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The encoded images of a column, whether they stand in a struct or not."""
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _rows(parquet: pq.ParquetFile, part: int, columns: Sequence[str]) -> Iterator[tuple[Any, Any, Any]]:
    """Image, caption and, where there is a third column, img2dataset's status of each row of a row group."""
    for batch in parquet.iter_batches(ROWS, row_groups=[part], columns=columns):
        images = image_column_bytes(batch[columns[0]]).to_pylist()
        statuses = batch[columns[2]].to_pylist() if len(columns) > 2 else [None] * len(images)
        yield from zip(images, batch[columns[1]].to_pylist(), statuses, strict=True)


def failed_downloads(root: PairRoot, file: PairFile) -> Skipped:
    """What img2dataset could not download or resize, by its own words, from the Parquet file beside a shard."""
    name = f"{file.name.removesuffix('.tar')}.parquet"
    if not root.exists(name):
        return collections.Counter()
    with root.filesystem.open_input_file(root.path(name)) as raw:
        statuses = pq.read_table(raw, columns=[STATUS])[STATUS].to_pylist()
    return collections.Counter(status for status in statuses if status not in {None, SUCCESS})
