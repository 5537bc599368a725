"""Configuration: what is computed. Frozen, closed, and fingerprinted whole.

A `Config` says *what* is computed; `Resources` (resources.py) says *how*, and never enters a fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pydantic

from syn_ray.core.errors import UserError, nearest

RECIPE_VERSION = 1
"""Raised when a change of the code changes results that an unchanged configuration gives."""

PAPER_NOT_GIVEN = {"paper": "not given"}
"""Marks a field (`json_schema_extra`) whose default stands in for a value the paper does not state."""

PLACE = {"identity": "where, not what"}
"""Marks a field (`json_schema_extra`) that says where something lies: it is no part of a fingerprint."""


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError("a name has letters, digits, '.', '_' and '-', and begins with a letter or digit")
    return name


Name = Annotated[str, pydantic.AfterValidator(_check_name)]
"""What directories, curves and columns are named by, and so the same on every storage."""


class Config(pydantic.BaseModel):
    """Base of everything that says what is computed."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits over the class name, the recipe version and every value, defaults included."""
        return fingerprint_of(type(self).__name__, self.identity)

    @property
    def identity(self) -> dict[str, Any]:
        """Its JSON value without what only says where something lies (`PLACE`)."""
        value = self.model_dump(mode="json")
        _leave_out_places(self, value)
        return value


def fingerprint_of(kind: str, value: Mapping[str, Any]) -> str:
    """The sha256 of a kind and its JSON value, independent of key order."""
    payload = {"kind": kind, "recipe_version": RECIPE_VERSION, "value": value}
    return hashlib.sha256(json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _leave_out_places(value: Any, dumped: Any) -> None:
    """Removes the fields marked `PLACE` from the JSON value of a configuration, in place and at any depth."""
    if isinstance(value, pydantic.BaseModel) and isinstance(dumped, dict):
        for name, field in type(value).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, Mapping) and extra.get("identity") == PLACE["identity"]:
                dumped.pop(name, None)
            else:
                _leave_out_places(getattr(value, name), dumped.get(name))
    elif isinstance(value, list | tuple) and isinstance(dumped, list):
        for item, inner in zip(value, dumped, strict=False):
            _leave_out_places(item, inner)
    elif isinstance(value, Mapping) and isinstance(dumped, dict):
        for key, item in value.items():
            _leave_out_places(item, dumped.get(key))


def defaults_not_from_paper(config: pydantic.BaseModel) -> list[str]:
    """Names and values of the fields that keep a default which the paper does not give."""
    lines: list[str] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, pydantic.BaseModel):
            lines += [f"{name}.{line}" for line in defaults_not_from_paper(value)]
        extra = field.json_schema_extra
        if isinstance(extra, Mapping) and extra.get("paper") == "not given" and name not in config.model_fields_set:
            lines.append(f"{name}={value}")
    return lines


C = TypeVar("C", bound=pydantic.BaseModel)


def validate(model: type[C], data: Any, where: str) -> C:
    """Builds `model` from plain data; the first mistake becomes one line.

    Raises:
        UserError: with the path of the value in `where`, the value and the nearest valid name.
    """
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        raise UserError(f"{where}: {_first_mistake(model, data, error)}") from None


def _first_mistake(model: type[pydantic.BaseModel], data: Any, error: pydantic.ValidationError) -> str:
    mistakes = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = mistakes[0]
    path = _path(first["loc"], data, missing=first["type"] == "missing")
    if first["type"] == "extra_forbidden":
        return f"unknown key '{path}'{nearest(str(first['loc'][-1]), _keys_at(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"'{path}' is missing; give it a value"
    message = first["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list")  # as YAML calls it
    message = message[0].lower() + message[1:] if message[:1].isalpha() else message
    if not path or isinstance(first["input"], Mapping):  # half a mapping says less than its place
        return f"{path}: {message}" if path else message
    value = json.dumps(first["input"], default=str)
    return f"{path}: {message} (given: {value if len(value) <= 80 else value[:77] + '...'})"


def _path(location: tuple[int | str, ...], data: Any, *, missing: bool) -> str:
    """Where a mistake stands in the user's data: a location without the tags by which pydantic names union members.

    The last part of the location of a `missing` key is not in the data either, and is no tag.
    """
    parts: list[int | str] = []
    place: Any = data
    for depth, part in enumerate(location, start=1):
        if isinstance(place, Mapping) and part not in place and not (missing and depth == len(location)):
            continue
        parts.append(part)
        if isinstance(place, Mapping):
            place = place.get(part)
        else:
            place = place[part] if isinstance(part, int) and isinstance(place, list | tuple) else None
    return ".".join(str(part) for part in parts)


def _keys_at(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid at a location, followed through nested models, lists and unions."""
    models = [model]
    for part in location:
        following = [sub for m in models if (f := m.model_fields.get(str(part))) for sub in _models_in(f.annotation)]
        models = following or [m for m in models if isinstance(part, int) or part not in m.model_fields]
        tagged = [m for m in models if part in {_tag(m), m.__name__}]
        models = tagged or models
    return sorted({key for m in models for key in m.model_fields})


def _tag(model: type[pydantic.BaseModel]) -> object:
    """The discriminator value of a member of a union (`kind`, `family`, ...), if it has one."""
    for name in ("kind", "family", "source", "objective"):
        if name in model.model_fields:
            return model.model_fields[name].default
    return None


def _models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]
