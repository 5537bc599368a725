"""What `--set a.b=c` does to a study file."""

from __future__ import annotations

from typing import Any

import yaml

from syn_ray.core.errors import UserError


def override(data: dict[str, Any], change: str) -> None:
    """Changes one value of a study in place.

    Args:
        data: the study as its file has it.
        change: `a.b=c`; the value is read as YAML, and numbers in the path are positions in lists.

    Raises:
        UserError: it is not of this form, or leads nowhere.
    """
    key, separator, text = change.partition("=")
    if not separator or not key:
        raise UserError(f"--set {change}: give it as a.b=value")
    *parents, last = key.split(".")
    place: Any = data
    for part in parents:
        place = place[_position(place, part, key)] if isinstance(place, list) else place.setdefault(part, {})
        if not isinstance(place, dict | list):
            raise UserError(f"--set {change}: '{part}' holds a value, nothing stands below it")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {change}: '{text}' is not YAML; quote it, or close its brackets") from None
    place[_position(place, last, key) if isinstance(place, list) else last] = value


def _position(items: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(items):
        raise UserError(f"--set {key}: '{part}' is no position in a list of {len(items)}")
    return int(part)
