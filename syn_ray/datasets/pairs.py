"""Image-text pairs by sample index: captions without their images, and images with their captions."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from syn_ray.core.artifact import read_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages, EmbeddedPairs, ImageText
from syn_ray.datasets.image_set import RealImage
from syn_ray.datasets.pair_files import PairRoot
from syn_ray.datasets.pair_index import PairIndex, entries_of, leading, read_entry, read_files
from syn_ray.datasets.pair_parquet import find_columns, image_column_bytes, in_parquet
from syn_ray.datasets.real import open_images

Split = Literal["train", "held_out"]
READERS = 16
"""Images of a tar or a directory that are asked for at a time: an object store answers each after some 10 ms."""


class _Order(Protocol):
    """All pairs in the seeded order."""

    @property
    def rows(self) -> int:
        """Pairs that are known."""

    @property
    def complete(self) -> bool:
        """Whether there are no others."""

    def caption(self, index: int) -> str: ...

    def read(self, indices: Sequence[int]) -> list[bytes]: ...


class PairSet:
    """The pairs of one split."""

    def __init__(self, name: str, order: _Order, held_out: int, split: Split) -> None:
        self._name = name
        self._order = order
        self._first = held_out if split == "train" else 0
        last = order.rows if split == "train" else min(held_out, order.rows)
        self.rows = max(0, last - self._first)
        """Pairs that are there."""
        self.complete = order.complete or (split == "held_out" and order.rows >= held_out)
        """Whether there are no others."""

    def caption(self, sample_index: int) -> str:
        """The caption of one pair.

        Raises:
            UserError: it is not there.
        """
        return self._order.caption(self._position(sample_index))

    def read(self, indices: Sequence[int]) -> list[RealImage]:
        """These pairs, in this order.

        Raises:
            UserError: one is not there, or its file has changed.
        """
        positions = [self._position(index) for index in indices]
        captions = [self._order.caption(position) for position in positions]
        return [RealImage(image, text) for image, text in zip(self._order.read(positions), captions, strict=True)]

    def _position(self, sample_index: int) -> int:
        if sample_index < self.rows:
            return self._first + sample_index
        raise UserError(
            f"pairs '{self._name}': sample {sample_index} is beyond the {self.rows:,} that are "
            f"{'there; ask for fewer' if self.complete else 'indexed; run generate for more'}"
        )


def open_pairs(pairs: ImageText, study_seed: int, index: Storage | None, split: Split = "train") -> PairSet:
    """Opens image-text pairs.

    Args:
        pairs: which.
        study_seed: the seed of their order.
        index: the `pairs/` directory of the storage; embedded pairs need none.
        split: those that are trained on, or those held out: the first ones of the order.

    Raises:
        UserError: they are not indexed.
    """
    if isinstance(pairs, EmbeddedPairs):
        return PairSet(pairs.name, _Embedded(pairs, study_seed), pairs.held_out, split)
    which = PairIndex(pairs=pairs, study_seed=study_seed)
    directory = None if index is None else index / which.directory_name
    artifact = None if directory is None else read_artifact(directory, which.fingerprint)
    if directory is None or artifact is None:
        raise UserError(f"pairs '{pairs.name}' are not indexed yet; run generate for the study")
    return PairSet(pairs.name, _Indexed(which, directory), pairs.held_out, split)


class _Embedded:
    """The shipped pairs, in a seeded permutation."""

    complete = True

    def __init__(self, pairs: EmbeddedPairs, study_seed: int) -> None:
        self._images = open_images(EmbeddedImages(name=pairs.name))
        self._captions = self._images.captions()
        self.rows = len(self._captions)
        rng = np.random.Generator(np.random.PCG64(derive_seed(study_seed, "pairs of", pairs.name)))
        self._order = rng.permutation(self.rows)

    def caption(self, index: int) -> str:
        caption = self._captions[int(self._order[index])]
        assert caption is not None  # all shipped images have one
        return str(caption)

    def read(self, indices: Sequence[int]) -> list[bytes]:
        return [real.image for real in self._images.read(self._order[list(indices)].tolist())]


class _Indexed:
    """Pairs in files, found by their index."""

    def __init__(self, index: PairIndex, directory: Storage) -> None:
        artifact = read_artifact(directory, index.fingerprint)
        files = read_files(directory)
        assert artifact is not None
        assert files is not None
        self._pairs = index.pairs
        self._files = files
        self._root = PairRoot(index.pairs)
        entries = leading(entries_of(artifact))
        self._ends = np.cumsum([entry.rows for entry in entries], dtype=np.int64)
        self.rows = int(self._ends[-1]) if entries else 0
        self.complete = bool(artifact.result["complete"])
        # Neighbours lie in one file, or at its end and the beginning of the next.
        self._table = functools.lru_cache(maxsize=2)(lambda place: read_entry(directory, entries[place]))
        self._row_group = functools.lru_cache(maxsize=1)(self._read_row_group)

    def caption(self, index: int) -> str:
        place, row = self._find(index)
        return str(self._table(place)["caption"][row].as_py())

    def read(self, indices: Sequence[int]) -> list[bytes]:
        found = [self._find(index) for index in indices]
        images: list[bytes] = []
        for place, group in itertools.groupby(found, key=lambda at: at[0]):
            rows = self._table(place).take([row for _, row in group]).to_pylist()
            self._check_file(place)
            images += self._of_parquet(place, rows) if in_parquet(self._pairs) else self._of_members(place, rows)
        return images

    def _find(self, index: int) -> tuple[int, int]:
        place = int(np.searchsorted(self._ends, index, side="right"))
        return place, index - (int(self._ends[place - 1]) if place else 0)

    def _check_file(self, place: int) -> None:
        file = self._files[place]
        path = self._root.path(file.name)
        if file.size_bytes is not None and self._root.filesystem.get_file_info(path).size != file.size_bytes:
            raise self._changed(f"{path}' is not what was indexed ({file.size_bytes} bytes)")

    def _changed(self, what: str) -> UserError:
        return UserError(f"pairs '{self._pairs.name}': '{what}; restore it, or give the pairs another name")

    def _of_members(self, place: int, rows: list[dict[str, Any]]) -> list[bytes]:
        path = self._root.path(self._files[place].name)
        if self._files[place].size_bytes is None:
            paths = [f"{path}/{row['image']}" for row in rows]
            with ThreadPoolExecutor(READERS) as readers:
                return list(readers.map(self._read_file, paths))
        with self._root.filesystem.open_input_file(path) as tar, ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(lambda row: bytes(tar.read_at(row["size_bytes"], row["offset"])), rows))

    def _read_file(self, path: str) -> bytes:
        try:
            with self._root.filesystem.open_input_stream(path) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            raise self._changed(f"{path}' was indexed and is not there") from None

    def _of_parquet(self, place: int, rows: list[dict[str, Any]]) -> list[bytes]:
        return [bytes(self._row_group(place, row["part"])[row["position"]].as_py()) for row in rows]

    def _read_row_group(self, place: int, part: int) -> pa.ChunkedArray:
        file = self._files[place]
        with self._root.filesystem.open_input_file(self._root.path(file.name)) as raw:
            parquet = pq.ParquetFile(raw)
            column = find_columns(self._pairs, file, parquet.schema_arrow)[0]
            return image_column_bytes(parquet.read_row_group(part, columns=[column])[column])
