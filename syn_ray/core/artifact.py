"""The record that makes a result directory complete: `artifact.json`, written last.

Present means complete. A rerun reads it and does nothing; without it the work is done again or continued.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import importlib.metadata
import json
import subprocess
from pathlib import Path
from typing import Any

import pydantic

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage

ARTIFACT = "artifact.json"
PACKAGES = (
    "syn_ray", "ray", "torch", "torchvision", "diffusers", "transformers", "timm", "open_clip_torch", "pyarrow",
    "numpy", "pillow",
)  # fmt: skip
"""numpy draws every order and pillow every image file, so these two decide results as well."""


class Artifact(pydantic.BaseModel):
    """What a directory holds, from which configuration it came and what came out."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str
    fingerprint: str
    config: dict[str, Any]
    parents: dict[str, str] = {}
    versions: dict[str, str] = {}
    git_commit: str | None = None
    created: str = ""
    seconds: float = 0.0
    result: dict[str, Any] = {}

    @property
    def checksum(self) -> str:
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def write_artifact(
    directory: Storage,
    *,
    kind: str,
    name: str,
    fingerprint: str,
    config: dict[str, Any],
    seconds: float,
    result: dict[str, Any],
    parents: dict[str, str] | None = None,
) -> Artifact:
    """Completes a result directory. Everything else in it must already be written."""
    artifact = Artifact(
        kind=kind,
        name=name,
        fingerprint=fingerprint,
        config=config,
        parents=parents or {},
        versions=package_versions(),
        git_commit=git_commit(),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        result=result,
    )
    record = artifact.model_dump(mode="json") | {"checksum": artifact.checksum}
    directory.write_bytes(ARTIFACT, json.dumps(record, indent=1).encode())
    return artifact


def read_artifact(directory: Storage, fingerprint: str | None = None) -> Artifact | None:
    """The artifact of a complete directory; None where the work is not finished.

    Raises:
        UserError: it was edited, or belongs to another configuration than `fingerprint`.
    """
    if not directory.exists(ARTIFACT):
        return None
    where = f"{directory.display}/{ARTIFACT}"
    try:
        record = json.loads(directory.read_bytes(ARTIFACT))
        checksum = record.pop("checksum")
        artifact = Artifact.model_validate(record)
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"{where}: not a syn_ray artifact; delete it and run again to have it remade") from None
    if artifact.checksum != checksum:
        raise UserError(f"{where}: it was edited (its checksum does not match); restore it, or delete it and run again")
    if fingerprint is not None and artifact.fingerprint != fingerprint:
        raise UserError(
            f"{where}: it belongs to fingerprint {artifact.fingerprint[:8]}, this directory to {fingerprint[:8]}; "
            "delete it and run again"
        )
    return artifact


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def git_commit() -> str | None:
    """The commit this package runs from, with `-dirty` for local changes; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
