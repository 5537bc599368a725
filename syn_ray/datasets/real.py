"""Reads real images: their labels at once, their encoded files by position."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from syn_ray import embedded
from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import (
    EMBEDDED_SETS,
    EmbeddedImages,
    FolderImages,
    ParquetImages,
    RealImages,
    WebDatasetImages,
)
from syn_ray.datasets.derived import Digits, families, shades
from syn_ray.datasets.directories import label_directories
from syn_ray.datasets.downstream import embedded_set
from syn_ray.datasets.image_set import ImageSet, RealImage
from syn_ray.datasets.parquet_images import ParquetSet
from syn_ray.datasets.vocabulary import Classes, class_infos, class_names
from syn_ray.datasets.webdataset import WebDatasetSet
from syn_ray.embedded import shifts
from syn_ray.shards.reader import open_source, read_samples

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""What Pillow raises about image files."""


def why_unreadable(error: Exception) -> str:
    """What it raised, in words: its own name the buffer in memory."""
    return "it is no image file" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__


def open_images(config: RealImages, classes: Classes | None = None) -> ImageSet:
    """Opens a set of real images; each is opened once per process.

    Args:
        config: which.
        classes: what the directories of a folder are named by; None: their sorted order (numbers by value) is the
            labels 0, 1, 2, ...

    Raises:
        UserError: it is not there, holds no images, or its directories are not the classes.
    """
    return _open(config, classes if isinstance(config, FolderImages) else None)


@functools.lru_cache(maxsize=8)
def _open(config: RealImages, classes: Classes | None) -> ImageSet:
    if isinstance(config, FolderImages):
        return _Folder(config, classes)
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


def check_classes(config: RealImages, classes: Classes) -> None:
    """Raises a UserError where images are not of these classes, or lie in directories of which that cannot be said."""
    if isinstance(config, FolderImages):
        open_images(config, classes)
    elif isinstance(config, EmbeddedImages):
        shipped = config.name in EMBEDDED_SETS
        own = embedded.CLASS_NAMES if shipped else embedded_set(config.name).class_names
        remedy = "set classes: fashion" if shipped else f"give them as the downstream set '{config.name}'"
        if not _named_alike(class_names(classes), own):
            raise UserError(
                f"classes: the embedded images '{config.name}' are of {', '.join(own)}, in this order; {remedy}, or "
                "give images of your own classes (kind: folder)"
            )


def _named_alike(names: Sequence[str], own: Sequence[str]) -> bool:
    """Whether other names may mean the same classes: as many, and none in another's place."""
    return len(names) == len(own) and all(a == b or a not in own for a, b in zip(names, own, strict=True))


def images_revision(config: RealImages, classes: Classes) -> str | None:
    """12 hexadecimal digits over the names and sizes of the files of a folder; None for images that say it themselves.

    Raises:
        UserError: as `open_images`.
    """
    images = open_images(config, classes)
    return images.revision if isinstance(images, _Folder) else None


def check_unchanged(config: RealImages, classes: Classes, recorded: str | None, what: str) -> None:
    """Raises a UserError where a folder does not hold the images of which `what` was begun, else two sets would mix.

    Args:
        config: the images.
        classes: of the images.
        recorded: their revision then; None where none was recorded.
        what: words for what is made of them.
    """
    if recorded is not None and images_revision(config, classes) != recorded:
        assert isinstance(config, FolderImages)
        raise UserError(
            f"{what}: '{config.path}' does not hold the images that it was begun with (names or sizes differ); restore "
            f"them, or call the changed ones something else than '{config.name}'"
        )


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
    """One directory a class; those whose names begin with a dot are not looked at."""

    def __init__(self, config: FolderImages, classes: Classes | None) -> None:
        self._root = Path(config.path)
        what = f"image folder '{config.path}'"
        if not self._root.is_dir():
            raise UserError(f"{what} is not a directory; give path/<class>/<image>")
        names = sorted(path.name for path in self._root.iterdir() if path.is_dir() and path.name[0] != ".")
        if not names:
            raise UserError(f"{what}: it holds no class directories; give path/<class>/<image>")
        if all(name.isdecimal() for name in names):  # ImageNet-V2's 0 ... 999 are labels, not words
            names.sort(key=int)
        by_place: list[int | None] = list(range(len(names)))
        labels = by_place
        if classes is not None:
            labels = label_directories(
                names, class_infos(classes), dict(config.labels), subset=config.subset, what=what
            )
        self._files: list[str] = []
        counts = []
        for name, label in zip(names, labels, strict=True):
            files = [] if label is None else self._list(name)
            if label is not None and not files:
                raise UserError(f"{what}: class directory '{name}' holds no images; give path/<class>/<image>")
            self._files += files
            counts.append(len(files))
        kept = [label if label is not None else -1 for label in labels]  # those left out have no files
        self.labels = np.repeat(np.array(kept, dtype=np.int32), counts)

    @functools.cached_property
    def revision(self) -> str:
        """12 hexadecimal digits over names and sizes, in order."""
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(f"{file}\0{(self._root / file).stat().st_size}\0".encode())
        return digest.hexdigest()[:12]

    def captions(self) -> list[str | None]:
        return [None] * len(self._files)

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        paths = [self._root / self._files[position] for position in positions]
        return [RealImage(path.read_bytes(), None, str(path)) for path in paths]

    def _list(self, name: str) -> list[str]:
        """The image files of a directory at any depth, relative to the root."""
        known = Image.registered_extensions()
        found = []
        for folder, _, files in os.walk(self._root / name):
            inside = Path(folder).relative_to(self._root).as_posix()
            found += [f"{inside}/{file}" for file in files if Path(file).suffix.lower() in known]
        return sorted(found)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
