"""Where a model is, what it is, and what of it is missing: before any weights are read.

No network where `HF_HUB_OFFLINE=1` or the model lies on this machine.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub
import yaml
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from syn_ray import embedded
from syn_ray.core.errors import UserError

INDEX = "model_index.json"
UNREADABLE = (OSError, ValueError, ImportError, EntryNotFoundError)
"""What diffusers, transformers and huggingface_hub raise about files."""
NO_LICENCE = "not stated"
_FAMILIES = {"AmusedPipeline": "muse", "IFPipeline": "imagen", "IFSuperResolutionPipeline": "imagen"}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that has been found."""

    model_id: str
    """As the user wrote it."""
    where: str
    """What diffusers loads it from: a directory, or a name of the Hub."""
    folder: Path
    """Where its index lies on this machine."""
    revision: str | None
    """The commit of the Hub, or the recorded revision of an embedded model; None for a directory."""
    on_hub: bool
    offline: bool

    @property
    def index(self) -> dict[str, Any]:
        """The pipeline's class and the classes of its parts."""
        index: dict[str, Any] = json.loads((self.folder / INDEX).read_text())
        return index

    @property
    def source(self) -> dict[str, Any]:
        """The arguments of `from_pretrained` that say from where."""
        return {"revision": self.revision if self.on_hub else None, "local_files_only": self.offline}


def find_model(model_id: str, revision: str | None, part: str = "") -> Model:
    """Finds a model's index, on disk or on the Hub.

    Args:
        model_id: a directory, `embedded:NAME`, or a name of the Hub.
        revision: a commit, tag or branch of the Hub.
        part: a folder in a directory that holds several pipelines.

    Raises:
        UserError: it is not there.
    """
    try:
        local = embedded.resolve(model_id) or (Path(model_id) if Path(model_id).is_dir() else None)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    if local is None:
        return _find_on_hub(model_id, revision)
    folder = local / part
    if not (folder / INDEX).is_file():
        hint = "; it holds stage-1: set family: imagen" if (local / "stage-1").is_dir() and not part else ""
        cannot_load(model_id, f"{INDEX} is not in {folder}{hint}", "give a directory in diffusers' format")
    kept = revision if model_id.startswith(embedded.PREFIX) else None
    return Model(model_id, str(folder), folder, kept, on_hub=False, offline=True)


def _find_on_hub(model_id: str, revision: str | None) -> Model:
    if model_id.startswith(("/", ".", "~")) or model_id.count("/") != 1:
        cannot_load(model_id, "there is no such directory", "give one in diffusers' format, or a model of the Hub")
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        file = Path(huggingface_hub.hf_hub_download(model_id, INDEX, revision=revision, local_files_only=offline))
    except UNREADABLE as error:
        why = (
            f"{INDEX} and the files it names are not in the Hub's cache, HF_HUB_OFFLINE=1"
            if offline
            else one_line(error)
        )
        cannot_load(model_id, why, how_to_fetch(model_id, revision))
    return Model(model_id, model_id, file.parent, file.parent.name, on_hub=True, offline=offline)


def check_family(model: Model, family: str) -> None:
    """Raises a UserError where a model's pipeline is of another family."""
    name = str(model.index["_class_name"])
    own = _FAMILIES.get(name, "stable_diffusion")
    if own != family:
        cannot_load(model.model_id, f"its pipeline {name} is of the family {own}, not {family}", f"set family: {own}")


def check_files(model: Model, parts: dict[str, Any]) -> None:
    """Raises a UserError that names the files missing from a model on this machine.

    Args:
        model: a model; of one that can be fetched from the Hub nothing is missing.
        parts: components that are not loaded from it.
    """
    if not model.offline:
        return
    missing = [
        wanted
        for name, kind in model.index.items()
        if isinstance(kind, list) and kind[1] is not None and name not in parts
        for wanted in _missing(model.folder, name, str(kind[1]))
    ]
    if missing:
        cannot_load(model.model_id, f"missing {', '.join(missing)}", how_to_fetch(model.model_id, model.revision))


def _missing(folder: Path, name: str, kind: str) -> list[str]:
    if "Tokenizer" in kind:
        wanted = ["tokenizer_config.json"]
    elif kind.endswith("Scheduler"):
        wanted = ["scheduler_config.json"]
    else:
        wanted = ["config.json", "*.safetensors"]
    return [f"{name}/{pattern}" for pattern in wanted if not any((folder / name).glob(pattern))]


@functools.lru_cache(maxsize=16)  # every shard says it: one question a process
def licence(model: Model) -> str | None:
    """The licence in the head of the model's card; None where the Hub did not say whether there is one."""
    card = model.folder / "README.md"
    if not card.is_file() and model.on_hub:
        try:
            card = Path(huggingface_hub.hf_hub_download(model.model_id, "README.md", **model.source))
        except LocalEntryNotFoundError:
            return None
        except EntryNotFoundError:  # a model without a card is a model that states no licence
            return NO_LICENCE
        except UNREADABLE:
            return None
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    parts = text.split("---")
    try:
        head = yaml.safe_load(parts[1]) if text.startswith("---") and len(parts) > 1 else None
    except yaml.YAMLError:
        return NO_LICENCE
    stated = (head.get("license_name") or head.get("license")) if isinstance(head, dict) else None
    return str(stated or NO_LICENCE)


def cannot_load(model_id: str, why: str, remedy: str) -> NoReturn:
    """Raises the error that every family gives for a model it cannot load."""
    raise UserError(f"generator '{model_id}' cannot be loaded: {why}; {remedy}") from None


def how_to_fetch(model_id: str, revision: str | None) -> str:
    """The remedy for files that are not there."""
    if "/" not in model_id or Path(model_id).is_dir() or model_id.startswith(embedded.PREFIX):
        return "make the directory whole"
    at = "" if revision is None else f" --revision {revision}"
    return f"fetch it with `hf download {model_id}{at}` or give a local directory"


def one_line(error: BaseException) -> str:
    """The first line of what a library says."""
    return str(error).strip().splitlines()[0].rstrip(".")
