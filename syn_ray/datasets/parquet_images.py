"""Labelled images in Parquet files, as Hugging Face `datasets` exports them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from syn_ray.core.errors import UserError, nearest
from syn_ray.datasets.config import ParquetImages
from syn_ray.datasets.files import list_files
from syn_ray.datasets.image_set import RealImage
from syn_ray.datasets.labels import read_labels
from syn_ray.datasets.vocabulary import class_names

HUGGINGFACE = b"huggingface"


class ParquetSet:
    """The rows of sorted files in their order. Labels are read at once, images by the row group when asked for.

    Raises:
        UserError: no files, no such columns, or labels that are none.
    """

    def __init__(self, config: ParquetImages) -> None:
        self._what = f"image set '{config.name}'"
        self._column = config.image_column
        self._directory, names = list_files(config.path, ".parquet", self._what)
        self._groups: list[tuple[str, int]] = []
        sizes: list[int] = []
        labels: list[Any] = []
        own_names: list[str] | None = None
        for name in names:
            file = self._open(name)
            self._check_columns(name, file.schema_arrow, (config.image_column, config.label_column))
            labels += file.read([config.label_column]).column(0).to_pylist()
            own_names = own_names or _class_names(file.schema_arrow, config.label_column)
            for group in range(file.num_row_groups):
                self._groups.append((name, group))
                sizes.append(file.metadata.row_group(group).num_rows)
        classes = None if config.classes is None else class_names(config.classes)
        self.labels = read_labels(labels, classes, own_names, self._what)
        self._ends = np.cumsum(sizes)
        self._held: tuple[int, pa.Array] | None = None

    def captions(self) -> list[str | None]:
        return [None] * len(self.labels)

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        return [RealImage(self._image(position), None) for position in positions]

    def _image(self, position: int) -> bytes:
        group = int(np.searchsorted(self._ends, position, side="right"))
        if self._held is None or self._held[0] != group:  # positions mostly follow one another
            name, number = self._groups[group]
            column = self._open(name).read_row_group(number, columns=[self._column]).column(0).combine_chunks()
            self._held = group, column.field("bytes") if pa.types.is_struct(column.type) else column
        before = int(self._ends[group - 1]) if group else 0
        image = self._held[1][position - before].as_py()
        if not image:
            raise UserError(
                f"{self._what}, image {position}: column '{self._column}' holds no bytes; export it embedded"
            )
        return bytes(image)

    def _open(self, name: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._directory.path(name), filesystem=self._directory.filesystem)
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self._what}: '{name}' cannot be read: {reason}; fetch it again") from None

    def _check_columns(self, name: str, schema: pa.Schema, columns: Sequence[str]) -> None:
        for column in columns:
            if column not in schema.names:
                raise UserError(f"{self._what}: '{name}' has no column '{column}'{nearest(column, schema.names)}")
        kind = schema.field(columns[0]).type
        if pa.types.is_struct(kind):
            kind = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else kind
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise UserError(
                f"{self._what}: column '{columns[0]}' of '{name}' holds {kind}; give struct{{bytes, path}} or binary"
            )


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names of a label column, where `datasets` has noted them."""
    noted = json.loads((schema.metadata or {}).get(HUGGINGFACE, b"{}"))
    names: list[str] | None = noted.get("info", {}).get("features", {}).get(column, {}).get("names")
    return names
