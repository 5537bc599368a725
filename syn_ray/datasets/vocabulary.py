"""Classes: their names in label order and what WordNet says of them, built in, in a file or inline.

A class's label is its place in the list. Its name is what the embedded and the open_clip vocabularies call it; what
else is known of it (gloss, lemmas, hypernyms) is asked for only by the prompt sets that say it.
"""

from __future__ import annotations

import collections
import csv
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pydantic

from syn_ray import embedded
from syn_ray.core.config import Config, validate
from syn_ray.core.errors import UserError, nearest
from syn_ray.core.yaml_file import read_text, read_yaml
from syn_ray.datasets.downstream import DOWNSTREAM, EMBEDDED_DOWNSTREAM, downstream_set, embedded_set
from syn_ray.datasets.wordnet import Synset, find_synset, timm_lines

VOCABULARIES = ("fashion", "imagenet", *DOWNSTREAM, *EMBEDDED_DOWNSTREAM)
LIST_FILES = (".yaml", ".yml", ".csv")

FASHION_WNIDS = (
    "n03595614",  # jersey, T-shirt, tee shirt
    "n04489008",  # trouser, pant
    "n04021028",  # pullover, slipover
    "n03236735",  # dress, frock
    "n03057021",  # coat
    "n04133789",  # sandal
    "n04197391",  # shirt
    "n03472535",  # gym shoe, sneaker, tennis shoe
    "n02774152",  # bag, handbag, pocketbook, purse: the data set's bags are handbags
    "n02872752",  # boot: WordNet has no ankle boot
)
"""WordNet 3.0 synsets of Fashion-MNIST's classes, chosen by hand: the garment or shoe sense of each name."""


class ClassInfo(Config):
    """A class: its name, and what a prompt set may want to say of it."""

    name: Annotated[str, pydantic.Field(min_length=1)]
    wnid: Annotated[str | None, pydantic.Field(pattern=r"^n\d{8}$")] = None
    """Its WordNet 3.0 noun synset, which fills in what is not given below."""
    description: str | None = None
    synonyms: tuple[str, ...] | None = None
    """Other words for it: the lemmas of its own synset."""
    hypernyms: tuple[str, ...] | None = None
    """What it is a kind of: the lemmas of its synset's direct hypernyms."""

    @property
    def gloss(self) -> str | None:
        """What it is, in a phrase."""
        return self.description if self.description is not None or self.wnid is None else self._synset(self.wnid).gloss

    @property
    def relatives(self) -> tuple[str, ...] | None:
        """Its synonyms and then its hypernyms; None where no hypernyms are known."""
        synset = self._synset(self.wnid) if self.wnid else None
        above = self.hypernyms or (synset.hypernyms if synset else None)
        own = self.synonyms or (synset.lemmas if synset else ())
        return None if above is None else own + above

    def _synset(self, wnid: str) -> Synset:
        synset = find_synset(wnid)
        if synset is None:
            raise UserError(
                f"class '{self.name}': wnid '{wnid}' is no synset of ImageNet; correct it, or leave it out and give "
                "description and hypernyms"
            )
        return synset


def read_classes(value: Any) -> Any:
    """Classes as a configuration holds them: a vocabulary's name, or names and records in label order.

    Args:
        value: a vocabulary's name, a file (.yaml: a list; .csv: a column `name`, where lists are separated by `;`), or
            a list of names and of mappings with the keys of `ClassInfo`.

    Raises:
        UserError: a file that cannot be read, or an entry that is not a class.
    """
    if isinstance(value, str):
        if not value.endswith(LIST_FILES):
            return value
        value = _read_file(Path(value))
    if not isinstance(value, list | tuple):
        raise UserError("give a vocabulary's name, a .yaml or .csv file, or a list of classes")
    if not value:
        raise UserError("the list is empty; name at least one class")
    return tuple(_entry(number, entry) for number, entry in enumerate(value))


Classes = Annotated[str | tuple[str | ClassInfo, ...], pydantic.BeforeValidator(read_classes)]
"""A built-in vocabulary's name, or the classes themselves in label order."""


def class_infos(classes: Classes) -> Sequence[ClassInfo]:
    """The classes in label order, with what is known of them.

    Raises:
        UserError: no vocabulary has that name.
    """
    if not isinstance(classes, str):
        return [entry if isinstance(entry, ClassInfo) else ClassInfo(name=entry) for entry in classes]
    if classes not in VOCABULARIES:
        raise UserError(f"classes: there is no vocabulary '{classes}'{nearest(classes, VOCABULARIES)}")
    return _built_in(classes)


def class_names(classes: Classes) -> Sequence[str]:
    """The names in label order.

    Raises:
        UserError: no vocabulary has that name.
    """
    return tuple(info.name for info in class_infos(classes))


def duplicate_names(classes: Classes) -> dict[str, list[int]]:
    """Names that several classes share, with their labels: such classes are asked for by the same prompts."""
    labels = collections.defaultdict(list)
    for label, name in enumerate(class_names(classes)):
        labels[name].append(label)
    return {name: found for name, found in labels.items() if len(found) > 1}


def imagenet_subset(name: str) -> tuple[int, ...]:
    """The 200 ImageNet labels that ImageNet-A ("a") or ImageNet-R ("r") has images of, as timm lists them."""
    return tuple(int(line) for line in timm_lines(f"imagenet_{name}_indices.txt"))


@functools.cache
def open_clip_lists() -> ModuleType:
    """open_clip's class names and templates, loaded as a file of its own: open_clip itself would load torch."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("open_clip_zero_shot_metadata", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _built_in(vocabulary: str) -> tuple[ClassInfo, ...]:
    if vocabulary not in {"fashion", "imagenet"}:
        known = downstream_set(vocabulary) if vocabulary in DOWNSTREAM else embedded_set(vocabulary)
        return tuple(ClassInfo(name=name) for name in known.class_names)
    names: Sequence[str] = embedded.CLASS_NAMES
    wnids: Sequence[str] = FASHION_WNIDS
    if vocabulary == "imagenet":
        names, wnids = open_clip_lists().IMAGENET_CLASSNAMES, timm_lines("imagenet_synsets.txt")
    return tuple(ClassInfo(name=name, wnid=wnid) for name, wnid in zip(names, wnids, strict=True))


def _entry(number: int, entry: Any) -> str | ClassInfo:
    if isinstance(entry, str) and entry.strip():
        return entry.strip()
    if isinstance(entry, dict):
        entry = validate(ClassInfo, entry, f"class {number}")
    if isinstance(entry, ClassInfo):
        return entry if entry.model_fields_set - {"name"} else entry.name
    raise UserError(f"class {number} is {entry!r}, not a name; in YAML, quote words like 'no' and numbers")


def _read_file(path: Path) -> Any:
    if path.suffix == ".csv":
        return [_csv_entry(row) for row in csv.DictReader(read_text(path, "class list").splitlines())]
    return read_yaml(path, "class list")


def _csv_entry(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its empty cells; the lists in it are separated by `;`."""
    given = {key: value.strip() for key, value in row.items() if isinstance(value, str) and value.strip()}
    for key in {"synonyms", "hypernyms"} & given.keys():
        given[key] = tuple(word.strip() for word in given[key].split(";"))  # type: ignore[assignment]
    return given
