"""Ray Data over an actor pool that holds a text model: one row in for each missing shard, one manifest entry out.

As for images (generate/stage.py): a shard is written where it is made, under a name fixed by its places, so that an
actor that dies costs its shard and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import ray

from syn_ray.actors import on_actors, try_once, use_given_threads
from syn_ray.core.artifact import Artifact
from syn_ray.core.errors import GenerationError
from syn_ray.core.resources import GenerateResources
from syn_ray.core.storage import Storage
from syn_ray.prompts.cache import PromptJob, WrittenSet, complete_job, open_job, write_texts
from syn_ray.prompts.write import PromptWriter
from syn_ray.shards.manifest import ShardEntry

CPU_BATCH_SIZE = 8
GPU_BATCH_SIZE = 32
"""With five beams, 160 sequences at a time: BLIP-2 (2.7 billion parameters) in half precision and these fit 24 GB."""


def write_prompts(written: WrittenSet, dataset_size: int, prompts: Storage, resources: GenerateResources) -> Artifact:
    """Writes what is missing of the prompts of the first `dataset_size` samples; what is there is kept.

    Args:
        written: the set.
        dataset_size: the samples that need prompts.
        prompts: the `prompts/` directory of the storage.
        resources: how many actors, and with what.

    Raises:
        UserError: the model or the images are not there, or a directory belongs to another set.
        GenerationError: the model cannot start, or writes nothing.
    """
    started = time.monotonic()
    batch_size = resources.batch_size
    if batch_size == "auto":
        batch_size = GPU_BATCH_SIZE if resources.gpus(ray.cluster_resources()) else CPU_BATCH_SIZE
    job = open_job(written, dataset_size, prompts, resources, batch_size)
    if job.missing():
        what = f"prompt model '{written.prompts.model.model_id}' cannot start"
        try_once(_load, written.model_dump_json(), resources=resources, error=GenerationError, what=what)
        for entry in _run(job, resources):
            job.add(entry)
    return complete_job(job, time.monotonic() - started)


def _run(job: PromptJob, resources: GenerateResources) -> Iterator[ShardEntry]:
    arguments = {
        "written": job.written.model_dump_json(),
        "uri": job.directory.uri,
        "places": job.manifest.shard_size,
        "batch_size": job.manifest.batch_size,
    }
    rows = [{"first_place": place} for place in job.missing()]
    what = "writing prompts failed"
    for answer in on_actors(rows, _ShardWriter, arguments, resources, error=GenerationError, what=what):
        yield ShardEntry.model_validate_json(answer["entry"])


class _ShardWriter:
    """An actor: holds one model, writes one shard a call and answers with its manifest entry."""

    def __init__(self, written: str, uri: str, places: int, batch_size: int) -> None:
        use_given_threads()
        self._writer = PromptWriter(WrittenSet.model_validate_json(written))
        self._directory = Storage(uri)
        self._places = places
        self._batch_size = batch_size

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        first_place = int(batch["first_place"][0])
        rows = self._writer.write(first_place, self._places, self._batch_size)
        return {"entry": [write_texts(self._directory, first_place, rows).model_dump_json()]}


def _load(written: str) -> None:
    PromptWriter(WrittenSet.model_validate_json(written))
