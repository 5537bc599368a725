"""The samples of a file of image-text pairs, whole ones and others, as they lie in a tar or a directory.

Members of a tar or a directory are one sample where their names agree up to the first dot after the last slash, as in
the webdataset library; unlike there, they need not follow each other.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import io
import json
import tarfile
from collections.abc import Callable

import pyarrow.fs as pafs
from PIL import Image

from syn_ray.datasets.config import FilePairs, WebdatasetPairs
from syn_ray.datasets.pair_files import PairFile, PairRoot

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are opened; another (an EPS, which Pillow hands to another program) is an unreadable image."""
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises about images."""
EXTENSIONS = {"jpg": "image", "jpeg": "image", "png": "image", "webp": "image", "txt": "txt", "json": "json"}
"""Roles of a sample's members by what follows the key."""
DAMAGED = "damaged file"
"""Counted once for a file that is cut off or is not of its kind; the sample in which a tar ends is dropped with it."""
READ_AHEAD_BYTES = 4 * 2**20

Skipped = collections.Counter[str]


@dataclasses.dataclass(frozen=True)
class PairSample:
    """A sample of a file: its image's place, its caption, and why it is skipped, if it is."""

    image: str
    """Name of the image in a tar or a directory; empty in a Parquet file."""
    caption: str
    part: int
    position: int
    offset: int | None
    size_bytes: int | None
    problem: str | None


def image_reason(pairs: FilePairs, image: bytes | None) -> str | None:
    """Why a sample with this image is skipped; None where it is not."""
    if not image:
        return "no image"
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            if pairs.check == "decode":
                opened.load()
    except UNREADABLE:
        return "unreadable image"
    return None


def caption_reason(caption: object) -> str | None:
    """Why a sample with this caption is skipped; None where it is not."""
    if caption is None or (isinstance(caption, str) and not caption.strip()):
        return "no caption"
    try:
        return None if isinstance(caption, str) and caption.encode() else "unreadable caption"
    except UnicodeEncodeError:  # half a character, which JSON can hold
        return "unreadable caption"


def tar_samples(pairs: FilePairs, root: PairRoot, file: PairFile, skipped: Skipped) -> list[PairSample]:
    """The samples of a tar file, in the order in which they begin."""
    groups = _Groups(pairs)
    with (
        root.filesystem.open_input_file(root.path(file.name)) as raw,
        io.BufferedReader(raw, READ_AHEAD_BYTES) as stream,
    ):
        if not _add_members(stream, raw.size(), groups):
            groups.drop_last()
            skipped[DAMAGED] += 1
    return groups.samples()


def folder_samples(pairs: FilePairs, root: PairRoot, file: PairFile) -> list[PairSample]:
    """The samples of a directory, by name."""
    groups = _Groups(pairs)
    infos = root.filesystem.get_file_info(pafs.FileSelector(root.path(file.name)))
    for info in sorted(infos, key=lambda info: str(info.path)):
        if info.type == pafs.FileType.File:
            groups.add(info.base_name, None, info.size, functools.partial(_read_file, root, info.path))
    return groups.samples()


@dataclasses.dataclass
class _Group:
    """What was found of one key."""

    image: str = ""
    offset: int | None = None
    size_bytes: int | None = None
    problem: str | None = "no image"
    captions: dict[str, object] = dataclasses.field(default_factory=dict)
    repeated: bool = False


class _Groups:
    """Members by key; positions are counted in the order in which keys first appear."""

    def __init__(self, pairs: FilePairs) -> None:
        self._pairs = pairs
        self._field = pairs.caption_field if isinstance(pairs, WebdatasetPairs) else None
        self._groups: dict[str, _Group] = {}
        self._last = ""

    def add(self, name: str, offset: int | None, size_bytes: int, read: Callable[[], bytes]) -> None:
        """Adds a member where it is an image or a text; others are not read."""
        directory, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        role = EXTENSIONS.get(extension.lower())
        if role is None or not stem:
            return
        self._last = directory + slash + stem
        group = self._groups.setdefault(self._last, _Group())
        data = read()
        if role != "image":
            group.repeated |= role in group.captions
            group.captions[role] = _text(data) if role == "txt" else _field(data, self._field or "caption")
            return
        group.repeated |= bool(group.image)
        group.image = name.encode(errors="replace").decode()
        group.offset, group.size_bytes = offset, size_bytes
        group.problem = image_reason(self._pairs, data)

    def drop_last(self) -> None:
        """Forgets the sample of the last member."""
        self._groups.pop(self._last, None)

    def samples(self) -> list[PairSample]:
        return [self._sample(position, group) for position, group in enumerate(self._groups.values())]

    def _sample(self, position: int, group: _Group) -> PairSample:
        role = "txt" if self._field is None and "txt" in group.captions else "json"
        caption = group.captions.get(role)
        problem = "repeated key" if group.repeated else group.problem or caption_reason(caption)
        text = str(caption).strip() if problem is None else ""
        return PairSample(group.image, text, 0, position, group.offset, group.size_bytes, problem)


def _add_members(stream: io.BufferedReader, size_bytes: int, groups: _Groups) -> bool:
    """Adds the members of a tar; False where it ends before its end mark, which Python's tarfile does not say."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if member.isreg():
                    read = functools.partial(_read, tar, member, size_bytes)
                    groups.add(member.name, member.offset_data, member.size, read)
            stream.seek(tar.offset)
            return stream.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except tarfile.TarError:
        return False


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, size_bytes: int) -> bytes:
    if member.offset_data + member.size > size_bytes:  # a broken header may ask for any number of bytes
        raise tarfile.ReadError("unexpected end of data")
    file = tar.extractfile(member)
    assert file is not None  # a regular file
    return file.read()


def _read_file(root: PairRoot, path: str) -> bytes:
    with root.filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def _text(data: bytes) -> object:
    """A caption; where it is not UTF-8, the bytes, which are none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _field(data: bytes, name: str) -> object:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return record.get(name) if isinstance(record, dict) else record
