"""Labelled images in tar files, as webdataset writes them: `<key>.png` and `<key>.cls` for each image."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import WebDatasetImages
from syn_ray.datasets.files import list_files
from syn_ray.datasets.image_set import RealImage
from syn_ray.datasets.labels import read_labels
from syn_ray.datasets.vocabulary import class_names

IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
LABEL = "cls"
CLASS_NAMES = "classnames.txt"
NUMBER = re.compile(r"-?[0-9]+")


class WebDatasetSet:
    """The samples of sorted files in their order. Headers and labels are read at once, images when asked for.

    Raises:
        UserError: no files, one that is no tar file, an image without a label or a label without an image.
    """

    def __init__(self, config: WebDatasetImages) -> None:
        self._what = f"image set '{config.name}'"
        self._directory, names = list_files(config.path, ".tar", self._what)
        self._places: list[tuple[str, int, int]] = []
        labels: list[int | str] = []
        for name in names:
            for offset, size, label in self._index(name):
                self._places.append((name, offset, size))
                labels.append(label)
        classes = None if config.classes is None else class_names(config.classes)
        self.labels = read_labels(labels, classes, _own_names(self._directory), self._what)

    def captions(self) -> list[str | None]:
        return [None] * len(self.labels)

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        images: dict[int, RealImage] = {}
        for name in dict.fromkeys(self._places[position][0] for position in positions):
            with self._directory.filesystem.open_input_file(self._directory.path(name)) as file:
                for position in positions:
                    where, offset, size = self._places[position]
                    if where == name:
                        images[position] = RealImage(file.read_at(size, offset), None)
        return [images[position] for position in positions]

    def _index(self, name: str) -> Iterator[tuple[int, int, int | str]]:
        """Offset and size of each image of a file in bytes, and its label, in the order of their first members."""
        samples: dict[str, dict[str, Any]] = {}
        try:
            with (
                self._directory.filesystem.open_input_file(self._directory.path(name)) as file,
                tarfile.open(fileobj=file, mode="r:") as archive,
            ):
                for member in archive:
                    self._note(samples, archive, member, name)
        except tarfile.TarError as error:
            raise UserError(f"{self._what}: '{name}' is no whole tar file ({error}); fetch it again") from None
        for key, sample in samples.items():
            if len(sample) != 2:
                lacking = "label (.cls)" if "image" in sample else "image (.jpg, .png or .webp)"
                raise UserError(f"{self._what}: '{key}' in '{name}' has no {lacking}; complete it or leave it out")
            yield *sample["image"], sample["label"]

    def _note(
        self, samples: dict[str, dict[str, Any]], archive: tarfile.TarFile, member: tarfile.TarInfo, name: str
    ) -> None:
        """Adds a member to its sample, which is named by its path up to the first dot of its last part."""
        head, slash, last = member.name.rpartition("/")
        stem, _, extension = last.partition(".")
        key, extension = head + slash + stem, extension.lower()
        if extension.endswith(f".{LABEL}"):  # its image would be passed over in silence
            raise UserError(
                f"{self._what}: '{member.name}' in '{name}' has a dot in its key, and webdataset ends keys at the "
                "first; rename it"
            )
        if not member.isfile() or not stem or extension not in {*IMAGES, LABEL}:
            return
        part = "label" if extension == LABEL else "image"
        sample = samples.setdefault(key, {})
        if part in sample:
            raise UserError(f"{self._what}: '{key}' in '{name}' has two files for its {part}; leave one out")
        if part == "image":
            sample[part] = member.offset_data, member.size
            return
        content = archive.extractfile(member)
        assert content is not None
        text = content.read().decode(errors="replace").strip()
        sample[part] = int(text) if NUMBER.fullmatch(text) else text or None


def _own_names(directory: Storage) -> list[str] | None:
    """What the labels mean, one name a line, as CLIP-benchmark writes it above its test and train directories."""
    places = [directory]
    if "/" in directory.path().strip("/"):
        places.append(directory.parent)
    for place in places:
        if place.exists(CLASS_NAMES):
            return place.read_bytes(CLASS_NAMES).decode().splitlines()
    return None
