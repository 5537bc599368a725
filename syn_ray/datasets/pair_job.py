"""An index of image-text pairs while it is made: which files are indexed, which are next, when it is enough. No Ray."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

from syn_ray.core.artifact import Artifact, read_artifact, write_artifact
from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.datasets.pair_files import PairFile, PairRoot, seeded_files
from syn_ray.datasets.pair_index import (
    IndexEntry,
    PairIndex,
    adopt_entry,
    entries_of,
    entry_name,
    leading,
    read_files,
    sizes_in,
    write_files,
)


@dataclasses.dataclass
class IndexJob:
    """An index while its shards are being written."""

    index: PairIndex
    directory: Storage
    files: Sequence[PairFile]
    """All of them, in the seeded order."""
    by_place: dict[int, IndexEntry]
    artifact: Artifact | None

    @property
    def entries(self) -> list[IndexEntry]:
        return [self.by_place[place] for place in sorted(self.by_place)]

    def next_places(self, wanted: int | None) -> list[int]:
        """Files to index next so that the first `wanted` pairs (None: all) are there; none when they are.

        The first alone; then as many as are needed if the others have as many pairs as those before.
        """
        missing = [place for place in range(len(self.files)) if place not in self.by_place]
        if wanted is None:
            return missing
        if sum(entry.rows for entry in leading(self.entries)) >= wanted:
            return []
        known = len(self.by_place)
        rows = sum(entry.rows for entry in self.by_place.values())
        needed = math.ceil((wanted - rows) * known / rows) if rows else known
        return missing[: max(1, needed)]

    def add(self, entry: IndexEntry) -> None:
        self.by_place[entry.place] = entry


def open_index_job(index: PairIndex, pairs: Storage) -> IndexJob:
    """Opens or starts an index.

    Args:
        index: which one.
        pairs: the `pairs/` directory of the storage.

    Raises:
        UserError: there are no files, or others than when the index was started.
    """
    directory = pairs / index.directory_name
    artifact = read_artifact(directory, index.fingerprint)
    files = seeded_files(PairRoot(index.pairs).files(), index.study_seed)
    started = read_files(directory)
    if started is None:
        write_files(directory, files)
    elif started != files:
        raise _other_files(index, started, files)
    sizes = sizes_in(directory)
    listed = [] if artifact is None else entries_of(artifact)
    by_place = {entry.place: entry for entry in listed if sizes.get(entry.name) == entry.size_bytes}
    unlisted = set(range(len(files))) - {entry.place for entry in listed}
    adopted = [adopt_entry(directory, index, place) for place in sorted(unlisted) if entry_name(place) in sizes]
    by_place |= {entry.place: entry for entry in adopted if entry is not None}
    return IndexJob(index, directory, files, by_place, artifact)


def complete_index(job: IndexJob, seconds: float) -> Artifact:
    """Writes the artifact, last; one that lists the same is left alone.

    Raises:
        UserError: every file is indexed and there is no pair in them.
    """
    entries = job.entries
    skipped = skipped_in(entries)
    rows = sum(entry.rows for entry in leading(entries))
    complete = len(entries) == len(job.files)
    if complete and not rows:
        raise UserError(
            f"pairs '{job.index.pairs.name}': no sample in {len(entries)} files has an image and a caption "
            f"({in_words(skipped)}); correct path, kind or names"
        )
    if job.artifact is not None and entries_of(job.artifact) == entries:
        return job.artifact
    result = {"rows": rows, "complete": complete, "files": len(job.files), "skipped": skipped}
    return write_artifact(
        job.directory,
        kind="pairs",
        name=job.index.pairs.name,
        fingerprint=job.index.fingerprint,
        config=job.index.model_dump(mode="json"),
        seconds=seconds + (job.artifact.seconds if job.artifact else 0.0),
        result=result | {"entries": [entry.model_dump() for entry in entries]},
    )


def skipped_in(entries: Sequence[IndexEntry]) -> dict[str, int]:
    """What was skipped, by reason."""
    counts: collections.Counter[str] = collections.Counter()
    for entry in entries:
        counts.update(entry.skipped)
    return dict(sorted(counts.items()))


def index_in_words(index: PairIndex, pairs: Storage) -> str | None:
    """What is indexed of pairs and what of it was skipped; None where nothing is yet."""
    artifact = read_artifact(pairs / index.directory_name, index.fingerprint)
    if artifact is None:
        return None
    done, skipped = artifact.result, artifact.result["skipped"]
    left_out = f"left out: {in_words(skipped)}" if skipped else "none left out"
    return (
        f"pairs {index.pairs.name}: {done['rows']:,} in the {len(done['entries']):,} of {done['files']:,} files that "
        f"are indexed; {left_out}"
    )


def in_words(skipped: Mapping[str, int]) -> str:
    """What was skipped, for a message."""
    return ", ".join(f"{count:,} x {reason}" for reason, count in skipped.items()) or "they are empty"


def _other_files(index: PairIndex, started: Sequence[PairFile], files: Sequence[PairFile]) -> UserError:
    gone, new = (sorted(set(a) - set(b), key=str) for a, b in ((started, files), (files, started)))
    first = f"{gone[0]} is not there" if gone else f"{new[0]} is new"
    return UserError(
        f"pairs '{index.pairs.name}': their files are not those that were indexed: {len(gone)} gone, {len(new)} new "
        f"({first}); restore them, or give the pairs another name"
    )
