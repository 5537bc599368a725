"""The offline world: Fashion-MNIST, a tiny Stable Diffusion and a reference classifier, shipped with the package.

Nothing heavy is imported here. `make/` holds the scripts that made the files under `assets/`, and what each took.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
"""Folder of all files below."""

STORED_SETS = ("pool", "v2", "tuning", "val")
"""Image sets stored as shards; the shifted sets are made from `val` when first used (`shifts.py`)."""

SHIFTED_IMAGES = 5_000
"""The sets made by rule hold so many images, the first ones of `val`."""

GENERATORS = ("stable-diffusion", "imagen", "muse")
"""Text-to-image models in diffusers' format."""

CLASSIFIER = "classifier"
"""The reference classifier, which timm loads, with `adversarial.json`: the positions in `val` of what it gets wrong."""

ASSET_NAMES = (*GENERATORS, CLASSIFIER, *(f"images/{name}" for name in STORED_SETS))
"""Every asset: folders below ASSETS."""

CLASS_NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
"""Class names by label."""

PREFIX = "embedded:"
"""What the id of an embedded model begins with: "embedded:stable-diffusion"."""

_REVISIONS = ASSETS / "revisions.json"
_NOT_CONTENT = {"artifact.json"}  # holds the time at which the files were made


def asset_path(name: str) -> Path:
    """Folder of one asset, for example of "stable-diffusion" or "images/pool".

    Raises:
        KeyError: no asset has this name.
        FileNotFoundError: the package was installed without its files.
    """
    if name not in ASSET_NAMES:
        raise KeyError(f"embedded asset '{name}': there is none of this name, but {', '.join(ASSET_NAMES)}")
    path = ASSETS / name
    if not path.is_dir():
        raise FileNotFoundError(f"embedded asset '{name}': {path} is missing; install the package again")
    return path


def asset_revision(name: str) -> str:
    """The recorded revision of one asset: 12 hex digits that change with any of its files."""
    asset_path(name)
    revisions: dict[str, str] = json.loads(_REVISIONS.read_text())
    return revisions[name]


def resolve(model_id: str) -> Path | None:
    """Folder of the model that "embedded:NAME" names; None where the id is not of this form."""
    return asset_path(model_id.removeprefix(PREFIX)) if model_id.startswith(PREFIX) else None


def compute_revision(directory: Path) -> str:
    """12 hex digits of the sha256 over the names and contents of all files below a folder, in sorted order."""
    digest = hashlib.sha256()
    for file in sorted(path for path in directory.rglob("*") if path.is_file() and path.name not in _NOT_CONTENT):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(directory).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def record_revision(name: str) -> str:
    """Computes and records an asset's revision, as the last act of the script that made it."""
    revision = compute_revision(ASSETS / name)
    revisions = json.loads(_REVISIONS.read_text()) if _REVISIONS.exists() else {}
    _REVISIONS.write_text(json.dumps(dict(sorted({**revisions, name: revision}.items())), indent=2) + "\n")
    return revision
