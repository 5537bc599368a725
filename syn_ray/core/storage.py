"""Files under one root, on a local disk or an object store (any `pyarrow.fs` URI).

A file appears under its name only when it is whole: a local file is written beside its name, synced and renamed; an
object store shows an object when its upload is closed.
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.parse
import uuid
from pathlib import Path

import pyarrow.fs as pafs

from syn_ray.core.errors import UserError

ABANDONED_SECONDS = 3600.0
"""A file that nobody has written to for so long is nobody's: one write takes seconds."""


class Storage:
    """A directory, named by `uri`; names inside it are relative and use `/`. Cheap to pickle: only the URI travels."""

    def __init__(self, uri: str | Path) -> None:
        self.uri = _absolute(str(uri))
        try:
            self._filesystem, self._root = pafs.FileSystem.from_uri(self.uri)
        except (OSError, ValueError) as error:
            raise UserError(
                f"storage '{uri}': {_first_line(error)}; give a local path or an s3:// or gs:// URI"
            ) from None

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        return Storage, (self.uri,)

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    def __truediv__(self, name: str) -> Storage:
        place, mark, query = self.uri.partition("?")  # s3://bucket/base?endpoint_override=...: names go before it
        return self._at(f"{place.rstrip('/')}/{urllib.parse.quote(name)}{mark}{query}", self.path(name))

    @property
    def name(self) -> str:
        """The last part of its path."""
        return str(self._root.rstrip("/").rpartition("/")[2])

    @property
    def parent(self) -> Storage:
        """The directory that holds it."""
        place, mark, query = self.uri.partition("?")
        above = self._root.rstrip("/").rpartition("/")
        return self._at(f"{place.rpartition('/')[0]}{mark}{query}", above[0] or above[1])

    def _at(self, uri: str, root: str) -> Storage:
        """Another directory of the same file system, whose settings in the URI's query are not read again."""
        other = object.__new__(Storage)
        other.uri, other._filesystem, other._root = uri, self._filesystem, root
        return other

    @property
    def local_path(self) -> Path | None:
        """The directory as a local path; None on an object store."""
        return Path(self._root) if isinstance(self._filesystem, pafs.LocalFileSystem) else None

    @property
    def display(self) -> str:
        """The path as a person would write it."""
        return str(self.local_path) if self.local_path is not None else self.uri

    @property
    def filesystem(self) -> pafs.FileSystem:
        return self._filesystem

    def path(self, name: str = "") -> str:
        """The path of `name` for `self.filesystem`."""
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def exists(self, name: str = "") -> bool:
        return bool(self._filesystem.get_file_info(self.path(name)).type != pafs.FileType.NotFound)

    def size_bytes(self, name: str) -> int | None:
        """The size of a file; None where there is none."""
        info = self._filesystem.get_file_info(self.path(name))
        return info.size if info.type == pafs.FileType.File else None

    def read_bytes(self, name: str) -> bytes:
        with self._filesystem.open_input_stream(self.path(name)) as stream:
            return bytes(stream.read())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a whole file under its final name, or nothing."""
        path = self.path(name)
        if self.local_path is None:
            with self._filesystem.open_output_stream(path) as stream:
                stream.write(data)
            return
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(final)
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk gets its space back
            raise

    def delete_file(self, name: str) -> None:
        if self.exists(name):
            self._filesystem.delete_file(self.path(name))

    def delete_partials(self, older_than_seconds: float = ABANDONED_SECONDS) -> int:
        """Removes what killed processes had half written, here and below; returns how many files.

        A younger one may be another process at work. An object store keeps no such files.
        """
        removed = 0
        for path in [] if self.local_path is None else self.local_path.rglob(".*.partial"):
            with contextlib.suppress(FileNotFoundError):  # it was finished meanwhile
                if path.stat().st_mtime < time.time() - older_than_seconds:
                    path.unlink()
                    removed += 1
        return removed

    def delete_directory(self) -> None:
        """Removes this directory and everything in it."""
        if self.exists():
            self._filesystem.delete_dir(self._root)

    def files(self) -> list[str]:
        """Names of the whole files directly in this directory, sorted."""
        return [name for name in self._children(pafs.FileType.File) if not name.endswith(".partial")]

    def directories(self) -> list[str]:
        """Names of the directories directly in this one, sorted."""
        return self._children(pafs.FileType.Directory)

    def _children(self, kind: pafs.FileType) -> list[str]:
        selector = pafs.FileSelector(self._root, allow_not_found=True)
        return sorted(info.base_name for info in self._filesystem.get_file_info(selector) if info.type == kind)

    def check_writable(self) -> None:
        """Raises a UserError when a file cannot be written and read back here."""
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        try:
            self.write_bytes(probe, b"syn_ray")
            self.read_bytes(probe)
            self.delete_file(probe)
        except OSError as error:
            raise UserError(
                f"storage '{self.display}' cannot be written: {_first_line(error)}; "
                "give another --storage or mend its rights"
            ) from None


def _absolute(uri: str) -> str:
    if "://" in uri:
        place, mark, query = uri.partition("?")
        return f"{place.rstrip('/')}{mark}{query}"
    return Path(uri).expanduser().absolute().as_uri()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
