"""Ray Data over the files of image-text pairs: one row in for each file to index, one entry of the index out.

As for images (generate/stage.py): a shard of the index is written where its file was read, under a name fixed by the
file's place in the order, so that a task that dies costs its file and nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.data import TaskPoolStrategy

from syn_ray.core.artifact import Artifact, read_artifact
from syn_ray.core.errors import GenerationError, root_cause
from syn_ray.core.resources import PoolResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.image_text import index_file
from syn_ray.datasets.pair_files import PairFile
from syn_ray.datasets.pair_index import IndexEntry, PairIndex, is_indexed, write_entry
from syn_ray.datasets.pair_job import IndexJob, complete_index, open_index_job

_ONE_AT_A_TIME = threading.Lock()
"""Sources of the same pairs are made side by side, in threads of one process."""


def index_pairs(index: PairIndex, wanted: int | None, pairs: Storage, resources: PoolResources) -> Artifact:
    """Indexes as many files as the first `wanted` pairs need (None: all files); what is there is kept.

    Args:
        index: which index.
        wanted: pairs, those held out included.
        pairs: the `pairs/` directory of the storage.
        resources: how many files at a time, and CPUs for each.

    Returns:
        The artifact; its result tells the pairs indexed, whether they are all, and what was skipped by reason.

    Raises:
        UserError: there are no files, no pairs in them, or others than when the index was started.
        GenerationError: a task died again and again.
    """
    with _ONE_AT_A_TIME:
        if is_indexed(index, wanted, pairs):
            artifact = read_artifact(pairs / index.directory_name, index.fingerprint)
            assert artifact is not None
            return artifact
        started = time.monotonic()
        job = open_index_job(index, pairs)
        while places := job.next_places(wanted):
            for entry in _run(job, places, resources):
                job.add(entry)
        return complete_index(job, time.monotonic() - started)


def _run(job: IndexJob, places: list[int], resources: PoolResources) -> Iterator[IndexEntry]:
    rows = [{"place": place, "name": job.files[place].name, "size": job.files[place].size_bytes} for place in places]
    entries = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _index,
        fn_kwargs={"index": job.index.model_dump_json(), "uri": job.directory.uri},
        batch_size=1,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=resources.actors(ray.cluster_resources(), 0.0, len(rows))),
        num_cpus=resources.cpus_per_actor,
        label_selector=resources.label_selector,
    )
    try:
        for answer in entries.iter_rows():
            yield IndexEntry.model_validate_json(answer["entry"])
    except ray.exceptions.RayError as error:
        raise root_cause(error, GenerationError, "indexing pairs failed") from error


def _index(batch: Any, index: str, uri: str) -> dict[str, list[str]]:
    """A task: reads one file through and answers with its entry."""
    which = PairIndex.model_validate_json(index)
    (row,) = batch.to_pylist()
    file = PairFile(row["name"], row["size"])
    entry = write_entry(Storage(uri), which, row["place"], file.name, index_file(which.pairs, file))
    return {"entry": [entry.model_dump_json()]}
