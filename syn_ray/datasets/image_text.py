"""One file of image-text pairs: which samples are whole, where their images lie, and the order they are taken in.

A sample is whole when it has an image that can be read and a caption that is not empty; the others are counted by
reason. They keep their place in the file's seeded order, so that one more or less moves no other sample before another.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.datasets.config import FilePairs, Img2datasetPairs
from syn_ray.datasets.pair_files import PairFile, PairRoot
from syn_ray.datasets.pair_parquet import failed_downloads, in_parquet, parquet_samples
from syn_ray.datasets.pair_samples import PairSample, Skipped, folder_samples, tar_samples

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("caption", pa.string()),
        ("part", pa.int32()),
        ("position", pa.int64()),
        ("offset", pa.int64()),
        ("size_bytes", pa.int64()),
    ]
)
"""`image`: its name in a tar or a directory. `part`: the row group of a Parquet file, else 0. `position`: the sample's
number in its part, broken ones counted. `offset`, `size_bytes`: where in a tar the image's bytes are."""


@dataclasses.dataclass(frozen=True)
class IndexedFile:
    """The whole samples of a file, and what was skipped."""

    table: pa.Table
    """Rows of `SCHEMA` in the file's own order."""
    parts: tuple[int, ...]
    """Samples of each part, broken ones counted."""
    skipped: Mapping[str, int]
    """Samples that are not whole, by reason."""


def index_file(pairs: FilePairs, file: PairFile) -> IndexedFile:
    """Reads a file through once.

    Raises:
        UserError: a Parquet file has no such columns, or the storage does not answer: that skips no sample.
    """
    skipped: Skipped = collections.Counter()
    try:
        samples, parts = _read(pairs, file, skipped)
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"pairs '{pairs.name}', file '{file.name}' cannot be read: {str(error).splitlines()[0]}; "
            "restore it or take it away"
        ) from None
    skipped.update(sample.problem for sample in samples if sample.problem is not None)
    rows = [{name: getattr(sample, name) for name in SCHEMA.names} for sample in samples if sample.problem is None]
    return IndexedFile(pa.Table.from_pylist(rows, schema=SCHEMA), parts, dict(sorted(skipped.items())))


def seeded_rows(indexed: IndexedFile, study_seed: int, name: str) -> pa.Table:
    """The whole samples of a file in the order in which they are taken.

    Parts are permuted, and samples inside each: what lies together is read together.

    Args:
        indexed: the file.
        study_seed: the seed of the order.
        name: the file's; each file has its own permutation.
    """
    rng = np.random.Generator(np.random.PCG64(derive_seed(study_seed, "pairs of", name)))
    starts = np.concatenate([[0], np.cumsum(indexed.parts)]).astype(np.int64)
    rank = np.empty(starts[-1], dtype=np.int64)  # of all samples: broken ones have theirs too
    taken = 0
    for part in rng.permutation(len(indexed.parts)):
        count = indexed.parts[part]
        rank[starts[part] + rng.permutation(count)] = np.arange(taken, taken + count)
        taken += count
    table = indexed.table
    flat = starts[table["part"].to_numpy()] + table["position"].to_numpy()
    return table.take(np.argsort(rank[flat]))


def _read(pairs: FilePairs, file: PairFile, skipped: Skipped) -> tuple[list[PairSample], tuple[int, ...]]:
    """Every sample of a file, and how many each of its parts has."""
    root = PairRoot(pairs)
    if in_parquet(pairs):
        return parquet_samples(pairs, root, file, skipped)
    if isinstance(pairs, Img2datasetPairs):
        skipped.update(failed_downloads(root, file))
    in_folder = file.size_bytes is None
    samples = folder_samples(pairs, root, file) if in_folder else tar_samples(pairs, root, file, skipped)
    return samples, (len(samples),)
