"""Finds the files that a path, a directory or a pattern names, in an order that is the same everywhere."""

from __future__ import annotations

import fnmatch
import re

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage


def list_files(path: str, suffix: str, what: str) -> tuple[Storage, list[str]]:
    """The directory and the names of the files in it that are meant, sorted; numbers in names count by value.

    Args:
        path: a directory, whose files with `suffix` are meant; a file; or a pattern of `fnmatch` in a path's last part.
        suffix: with the dot.
        what: words for the set in the error.

    Raises:
        UserError: there is no such file.
    """
    head, _, last = path.rstrip("/").rpartition("/")
    if last.endswith(suffix):
        directory, pattern = Storage(head or ("/" if path.startswith("/") else ".")), last
    else:
        directory, pattern = Storage(path), f"*{suffix}"
    names = [name for name in directory.files() if fnmatch.fnmatchcase(name, pattern)]
    if not names:
        raise UserError(
            f"{what}: there is no {pattern} in '{directory.display}'; give a directory, a file or a pattern such as "
            f"dir/test-*{suffix}"
        )
    return directory, sorted(names, key=_by_value)


def _by_value(name: str) -> list[tuple[str, int]]:
    """Shard 2 before shard 10, whether or not they are padded with zeros; equal values by their letters."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)] + [(name, 0)]
