"""Files that people write, read with their mistakes told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from syn_ray.core.errors import UserError


def read_text(path: Path, what: str) -> str:
    """A file's text.

    Args:
        path: the file.
        what: what it is called in messages, e.g. `study file`.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{what} '{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} '{path}' is not UTF-8 text; save it as such") from None


def read_yaml(path: Path, what: str) -> Any:
    """What a YAML file holds; arguments and errors as of `read_text`.

    Raises:
        UserError: also where it is not YAML.
    """
    text = read_text(path, what)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{what} '{path}' is not YAML: {' '.join(str(error).split())}") from None
