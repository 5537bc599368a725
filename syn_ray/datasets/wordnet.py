"""WordNet 3.0 by wnid, ImageNet's name of a noun synset: lemmas and gloss as timm has them, hypernyms as shipped here.

WordNet 3.0, copyright 2006 by Princeton University; its licence stands at the head of `data/hypernyms.tsv.xz`, which
`make_hypernyms.py` made.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import lzma
from pathlib import Path

HYPERNYMS = Path(__file__).parent / "data" / "hypernyms.tsv.xz"
LEMMA_SEPARATOR = "|"


@dataclasses.dataclass(frozen=True)
class Synset:
    """A noun synset of ImageNet's hierarchy."""

    lemmas: tuple[str, ...]
    gloss: str
    """Its definition, without examples of use."""
    hypernyms: tuple[str, ...]
    """The lemmas of its direct hypernyms, in WordNet's order; most synsets have one hypernym."""


def find_synset(wnid: str) -> Synset | None:
    """The synset of a wnid; None where it is not among the 21,844 that timm lists."""
    lemmas = timm_table("imagenet_synset_to_lemma.txt").get(wnid)
    if lemmas is None:
        return None
    gloss = timm_table("imagenet_synset_to_definition.txt")[wnid]
    return Synset(tuple(lemmas.split(", ")), gloss, _hypernyms()[wnid])


def timm_lines(name: str) -> list[str]:
    """A list that timm ships, found without importing timm: that would load torch, which a plan can do without."""
    spec = importlib.util.find_spec("timm")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "data" / "_info" / name).read_text().splitlines()


@functools.cache
def timm_table(name: str) -> dict[str, str]:
    """A table of two columns that timm ships, by wnid."""
    return dict(line.split("\t") for line in timm_lines(name))


@functools.cache
def _hypernyms() -> dict[str, tuple[str, ...]]:
    lines = lzma.decompress(HYPERNYMS.read_bytes()).decode().splitlines()
    pairs = (line.split("\t") for line in lines if not line.startswith("#"))
    return {wnid: tuple(lemmas.split(LEMMA_SEPARATOR)) for wnid, lemmas in pairs}
