"""Reads real images: their labels at once, their encoded files by position."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from syn_ray import embedded
from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedImages, FolderImages, ParquetImages, RealImages, WebDatasetImages
from syn_ray.datasets.derived import Digits, families, shades
from syn_ray.datasets.image_set import ImageSet, RealImage
from syn_ray.datasets.parquet_images import ParquetSet
from syn_ray.datasets.webdataset import WebDatasetSet
from syn_ray.embedded import shifts
from syn_ray.shards.reader import open_source, read_samples


@functools.lru_cache(maxsize=8)
def open_images(config: RealImages) -> ImageSet:
    """Opens a set of real images; each is opened once per process.

    Raises:
        UserError: it is not there or holds no images.
    """
    if isinstance(config, FolderImages):
        return _Folder(Path(config.path))
    if isinstance(config, ParquetImages):
        return ParquetSet(config)
    if isinstance(config, WebDatasetImages):
        return WebDatasetSet(config)
    if config.name == "digits":
        return Digits()
    if config.name in {"families", "shades"}:
        validation = open_images(EmbeddedImages(name="val"))
        return families(validation) if config.name == "families" else shades(validation)
    return _Embedded(config)


def balanced_order(labels: npt.NDArray[np.int32], num_classes: int, seed: int) -> npt.NDArray[np.int64]:
    """A seeded order in which position `i` has class `i mod num_classes`, so that every prefix is class balanced.

    Returns:
        Positions into `labels`, shape [num_classes * images of the smallest class].
    """
    by_class = class_orders(labels, num_classes, seed)
    smallest = min(len(positions) for positions in by_class)
    return np.stack([positions[:smallest] for positions in by_class], axis=1).reshape(-1)


def class_orders(labels: npt.NDArray[np.int32], num_classes: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """All images of each class in a seeded order, as positions into `labels`; balanced orders take from their heads."""
    rng = np.random.Generator(np.random.PCG64(derive_seed(seed, "real order")))
    return [rng.permutation(np.flatnonzero(labels == label)) for label in range(num_classes)]


class _Embedded:
    """The shipped shards; the shifted sets are made from the validation images by rule."""

    def __init__(self, config: EmbeddedImages) -> None:
        self._rule = config.name
        stored = config.name if config.name in embedded.STORED_SETS else "val"
        directory = Storage(embedded.asset_path(f"images/{stored}"))
        manifest = open_source(directory)
        table = read_samples(directory, manifest, manifest.rows, ["image", "label", "text"])
        self._table = table.take(self._positions(table.num_rows)).combine_chunks()
        self._images = self._table["image"].combine_chunks().field("bytes")

    def _positions(self, rows: int) -> pa.Array:
        if self._rule == "adversarial":
            return pa.array(json.loads((embedded.asset_path("classifier") / "adversarial.json").read_text()))
        return pa.array(range(min(rows, embedded.SHIFTED_IMAGES) if self._rule in shifts.SHIFTS else rows))

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        return np.asarray(self._table["label"].to_numpy(), dtype=np.int32)

    def captions(self) -> list[str | None]:
        return list(self._table["text"].to_pylist())

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        rows = self._table.select(["text"]).take(list(positions))["text"].to_pylist()
        images = [bytes(self._images[int(position)].as_py()) for position in positions]
        if self._rule in shifts.SHIFTS:
            pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])
            images = [_png(array) for array in shifts.SHIFTS[self._rule](pixels)]
        return [RealImage(image, text) for image, text in zip(images, rows, strict=True)]


class _Folder:
    """One directory a class."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"image folder '{root}' is not a directory; give path/<class>/<image>")
        classes = sorted(path for path in root.iterdir() if path.is_dir())
        if all(path.name.isdecimal() for path in classes):  # ImageNet-V2's 0 ... 999 are labels, not words
            classes.sort(key=lambda path: int(path.name))
        known = Image.registered_extensions()
        listed = [[p for p in sorted(c.rglob("*")) if p.suffix.lower() in known] for c in classes]
        empty = [c.name for c, paths in zip(classes, listed, strict=True) if not paths]
        if not classes or empty:
            what = f"class directory '{empty[0]}' holds no images" if empty else "it holds no class directories"
            raise UserError(f"image folder '{root}': {what}; give path/<class>/<image>")
        self._paths = [path for paths in listed for path in paths]
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(paths) for paths in listed])

    def captions(self) -> list[str | None]:
        return [None] * len(self._paths)

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        return [RealImage(self._paths[position].read_bytes(), None) for position in positions]


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
