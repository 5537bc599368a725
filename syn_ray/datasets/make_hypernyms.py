"""Makes `data/hypernyms.tsv.xz` from WordNet 3.0: the direct hypernyms of every synset that timm lists.

WordNet 3.0's noun offsets are ImageNet's wnids. timm carries lemmas and glosses of ImageNet's synsets, and nothing of
what stands above them; that alone is shipped here. To make the file again (a second):

    apt-get install wordnet-base        # WordNet 3.0, which puts data.noun in /usr/share/wordnet
    python -m syn_ray.datasets.make_hypernyms /usr/share/wordnet/data.noun /usr/share/doc/wordnet-base/copyright

The first lines of the file, behind `#`, are WordNet's licence, as the licence asks.
"""

from __future__ import annotations

import argparse
import lzma
from pathlib import Path

from syn_ray.datasets.wordnet import HYPERNYMS, LEMMA_SEPARATOR, timm_table

HYPERNYM_POINTERS = ("@", "@i")
"""A kind of; an instance of. See wndb(5WN) for the format of data.noun."""


def read_nouns(data_noun: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Lemmas and direct hypernyms of every noun synset, by wnid."""
    nouns = {}
    for line in data_noun.read_text().splitlines():
        if line.startswith(" "):  # the licence
            continue
        offset, _, _, words, *rest = line.split(" | ")[0].split()
        lemmas = [word.replace("_", " ") for word in rest[: 2 * int(words, 16) : 2]]
        pointers = rest[2 * int(words, 16) + 1 :]
        quadruples = zip(pointers[0::4], pointers[1::4], strict=False)
        nouns[f"n{offset}"] = (lemmas, [f"n{target}" for symbol, target in quadruples if symbol in HYPERNYM_POINTERS])
    return nouns


def licence_lines(copyright_file: Path) -> list[str]:
    """WordNet's licence out of Debian's copyright file, each line behind `#`."""
    text = copyright_file.read_text()
    licence = text[text.index(" This software and database") : text.index("\nFiles: debian/*")]
    return [f"#{'' if line == ' .' else line}" for line in licence.splitlines() if line.strip()]


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_noun", type=Path)
    parser.add_argument("copyright_file", type=Path)
    given = parser.parse_args()
    nouns = read_nouns(given.data_noun)
    lines = licence_lines(given.copyright_file)
    for wnid in timm_table("imagenet_synset_to_lemma.txt"):
        above = dict.fromkeys(lemma for parent in nouns[wnid][1] for lemma in nouns[parent][0])
        lines.append(f"{wnid}\t{LEMMA_SEPARATOR.join(above)}")
    HYPERNYMS.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))


if __name__ == "__main__":
    main()
