"""Finds a study by its name or path, reads it, and makes the changes that `--set` asks for."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path

from syn_ray.core.config import validate
from syn_ray.core.errors import UserError, nearest
from syn_ray.core.yaml_file import read_yaml
from syn_ray.study.config import StudyConfig
from syn_ray.study.overrides import override


def built_in_studies() -> dict[str, Path]:
    """The studies that come with the package, by name."""
    folder = Path(str(importlib.resources.files("syn_ray") / "studies"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_study(study: str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Reads a built-in study or a study file.

    Args:
        study: a built-in name, or a path that ends in .yaml or .yml.
        overrides: `a.b=c`, as `--set` takes them; the value is read as YAML.

    Raises:
        UserError: no such study, or something wrong in it; one line with the place and the nearest valid name.
    """
    studies = built_in_studies()
    path = studies.get(study)
    if path is None:
        if not study.endswith((".yaml", ".yml")):
            raise UserError(f"there is no study '{study}'{nearest(study, studies)} Or give a path that ends in .yaml.")
        path = Path(study)
    data = read_yaml(path, "study file")
    if not isinstance(data, dict):
        raise UserError(f"study file '{path}' holds no settings; start from `syn-ray studies --print quickstart`")
    for change in overrides:
        override(data, change)
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).lstrip("-._")
    if "name" not in data and name != path.stem:
        raise UserError(
            f"study file '{path}': a study is called as its file, and '{path.stem}' is no name for one; rename the "
            f"file, or give it a name: {name or 'my-study'}"
        )
    return validate(StudyConfig, {"name": path.stem} | data, study)
