"""The files that image-text pairs lie in, and the seeded order in which they are taken."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Sequence

import pyarrow.fs as pafs

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import FilePairs, Img2datasetPairs, ParquetPairs

HIDDEN = (".", "_")
"""What the names of files and directories begin with that are nobody's data: `_tmp`, `_SUCCESS`, `.cache`."""
STATISTICS = "_stats.json"
"""What img2dataset writes beside a shard, last."""


@dataclasses.dataclass(frozen=True)
class PairFile:
    """A tar or Parquet file, or a directory of images."""

    name: str
    """Its path below the common directory."""
    size_bytes: int | None
    """None for a directory."""

    def __str__(self) -> str:
        return f"{self.name} ({'a directory' if self.size_bytes is None else f'{self.size_bytes} bytes'})"


class PairRoot:
    """The directory that is common to all files of a set, and what is below it."""

    def __init__(self, pairs: FilePairs) -> None:
        self._pairs = pairs
        self._suffix = _suffix(pairs)
        entries = [Storage(path) for path in pairs.path]
        self.filesystem = entries[0].filesystem
        if any(entry.filesystem != self.filesystem for entry in entries):
            raise UserError(f"pairs '{pairs.name}': their files lie in several storages; give files of one")
        self._paths = [entry.path() for entry in entries]
        self._root = posixpath.commonpath(
            [posixpath.dirname(path) if self._is_file(path) else path for path in self._paths]
        )

    def path(self, name: str) -> str:
        """The path of a file for `self.filesystem`."""
        return posixpath.join(self._root, name)

    def exists(self, name: str) -> bool:
        return bool(self.filesystem.get_file_info(self.path(name)).type != pafs.FileType.NotFound)

    def files(self) -> list[PairFile]:
        """Every file, by name.

        Raises:
            UserError: a path is not there or cannot be read, or there is no file of the kind.
        """
        found = {info.path: info for path in self._paths for info in self._below(path)}
        named = {posixpath.relpath(path, self._root): info for path, info in found.items()}
        files = [self._file(name, info) for name, info in sorted(named.items()) if self._wanted(name, info)]
        if isinstance(self._pairs, Img2datasetPairs) and any(name.endswith(STATISTICS) for name in named):
            files = [file for file in files if f"{file.name.removesuffix(self._suffix)}{STATISTICS}" in named]
        if not files:
            what = f"{self._suffix} file" if self._suffix else "directory 00000, 00001, ... of images"
            raise UserError(f"pairs '{self._pairs.name}': there is no {what} in '{self._root}'; correct path or kind")
        return files

    def _below(self, path: str) -> list[pafs.FileInfo]:
        # Without a suffix, the files are directories: what lies in them is listed when they are indexed.
        selector = path if self._is_file(path) else pafs.FileSelector(path, recursive=bool(self._suffix))
        try:
            infos = self.filesystem.get_file_info(selector)
        except FileNotFoundError:
            infos = pafs.FileInfo(path, pafs.FileType.NotFound)
        except OSError as error:
            raise UserError(
                f"pairs '{self._pairs.name}': '{path}' cannot be listed: {str(error).splitlines()[0]}"
            ) from None
        if isinstance(infos, list):
            return infos
        if infos.type == pafs.FileType.NotFound:
            raise UserError(f"pairs '{self._pairs.name}': '{path}' is not there; correct its path")
        return [infos]

    def _wanted(self, name: str, info: pafs.FileInfo) -> bool:
        if any(part.startswith(HIDDEN) for part in name.split("/")):
            return False
        if self._suffix:
            return info.type == pafs.FileType.File and name.endswith(self._suffix)
        return info.type == pafs.FileType.Directory and posixpath.basename(name).isdecimal()

    def _file(self, name: str, info: pafs.FileInfo) -> PairFile:
        return PairFile(name, info.size if self._suffix else None)

    def _is_file(self, path: str) -> bool:
        return bool(self._suffix) and path.endswith(self._suffix)


def seeded_files(files: Sequence[PairFile], study_seed: int) -> list[PairFile]:
    """The files in the order in which they are taken: a permutation that depends on the seed and their names."""
    return sorted(files, key=lambda file: (derive_seed(study_seed, "pair file", file.name), file.name))


def _suffix(pairs: FilePairs) -> str:
    """How the names of the files end; empty where they are directories."""
    if isinstance(pairs, Img2datasetPairs):
        return {"webdataset": ".tar", "parquet": ".parquet", "files": ""}[pairs.output_format]
    return ".parquet" if isinstance(pairs, ParquetPairs) else ".tar"
