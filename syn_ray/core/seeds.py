"""Seeds that depend on what is drawn, never on who draws it.

A sample's noise is fixed by the study's seed and the sample's index alone, so any number of workers, any shard order
and any restart give the same images, and one sample has the same noise at every guidance scale.
"""

from __future__ import annotations

import hashlib


def derive_seed(study_seed: int, *parts: int | str) -> int:
    """A 63-bit seed for whatever `parts` name, from BLAKE2b: portable, and free of collisions in practice."""
    text = "/".join([str(study_seed), *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def sample_seed(study_seed: int, sample_index: int, attempt: int = 0) -> int:
    """The seed of one sample; `attempt` counts the images of that sample refused by the quality gate."""
    return derive_seed(study_seed, "sample", sample_index, attempt)
