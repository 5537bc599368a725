"""Ray Data over an actor pool: one row in for each missing shard, one manifest entry out.

No pixels and no images pass through the object store. An actor that dies is replaced and its shard is rendered again
under the same name with the same bytes.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pydantic
import ray

from syn_ray import embedded
from syn_ray.actors import on_actors, try_once, use_given_threads
from syn_ray.core.artifact import Artifact
from syn_ray.core.errors import GenerationError
from syn_ray.core.resources import GenerateResources, PoolResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.pair_index import pairs_beside
from syn_ray.datasets.stage import index_pairs
from syn_ray.datasets.vocabulary import class_names
from syn_ray.generate.config import AnySource, PairSource, Source, SyntheticSource, directory_name
from syn_ray.generate.families import GeneratorConfig, read_generator
from syn_ray.generate.protocol import ImageGenerator, load_generator
from syn_ray.generate.render import Renderer, make_renderer
from syn_ray.generate.work import Job, Request, complete_job, needed_pairs, open_job
from syn_ray.prompts.cache import prompts_beside
from syn_ray.shards.writer import write_shard

CPU_BATCH_SIZE = 64
LARGEST_GPU_BATCH = 256
COPIES_AN_ACTOR = 2000
EMBEDDED_AN_ACTOR = 256
"""Images for which the start of one more actor pays: it takes seconds, as long as these take. Public models: any."""

OnImages = Callable[[str, int], None]
"""Called in the actors with a source's directory name and the number of images just made. Must pickle."""


def make_images(
    requests: Sequence[Request], images: Storage, resources: GenerateResources, on_images: OnImages | None = None
) -> list[Artifact]:
    """Makes what is missing of each source; what is there is kept. Pairs in files are indexed first.

    Args:
        requests: sources that may share one pool of actors: synthetic ones of one generator, or real ones.
        images: the `images/` directory of the storage.
        resources: how many actors, and with what.
        on_images: progress.

    Returns:
        The sources' artifacts, in the order of the requests.

    Raises:
        UserError: a directory that belongs to another source, an edited artifact, a real source that is too small.
        GenerationError: a generator that cannot start or keeps making unusable images.
    """
    started = time.monotonic()
    for request in requests:
        needed = needed_pairs(request, images, resources)
        if needed is not None:
            index_pairs(*needed, pairs_beside(images), PoolResources())  # reads files: wants CPUs and no accelerator
    generator = next((r.source.generator for r in requests if isinstance(r.source, SyntheticSource)), None)
    device = drawing_device(resources)
    jobs = [
        open_job(request, images, resources, lambda: _batch_size(generator, resources), device) for request in requests
    ]
    rows = [{"job": n, "first_index": index} for n, job in enumerate(jobs) for index in job.missing()]
    if rows:
        gpus = 0.0 if generator is None else resources.gpus(ray.cluster_resources())
        for answer in _run(jobs, rows, gpus, resources, on_images):
            jobs[answer["job"]].add(answer)
    return [complete_job(job, time.monotonic() - started) for job in jobs]


def drawing_device(resources: GenerateResources) -> str:
    """The kind of device that actors draw on: `cuda` or `cpu`."""
    return "cuda" if resources.gpus(ray.cluster_resources()) else "cpu"


def _run(
    jobs: list[Job], rows: list[dict[str, int]], gpus: float, resources: GenerateResources, on_images: OnImages | None
) -> Iterator[dict[str, Any]]:
    work = [
        (
            job.source.model_dump_json(),
            job.directory.uri,
            job.manifest.batch_size,
            {i: job.rows(i) for i in job.missing()},
            resources.model_copy(update=job.manifest.kernels).model_dump_json(),
        )
        for job in jobs
    ]
    arguments = {"work": json.dumps(work), "on_images": on_images}
    what = "making images failed"
    most = _worth(jobs, resources)
    return on_actors(
        rows, _ShardMaker, arguments, resources, error=GenerationError, what=what, gpus=gpus, most_actors=most
    )


def _worth(jobs: list[Job], resources: GenerateResources) -> int | None:
    """How many actors the missing images are worth; None: as many as there are shards, or as the resources say."""
    if resources.max_actors != "auto":
        return None
    generators = [job.source.generator for job in jobs if isinstance(job.source, SyntheticSource)]
    if not all(generator.model_id.startswith(embedded.PREFIX) for generator in generators):
        return None
    images = sum(job.rows(index) for job in jobs for index in job.missing())
    return math.ceil(images / (EMBEDDED_AN_ACTOR if generators else COPIES_AN_ACTOR))


class _ShardMaker:
    """An actor: holds one generator, makes one shard a call and answers with its manifest entry.

    Of two sources that were started with different settings of the generator, each gets its own.
    """

    def __init__(self, work: str, on_images: OnImages | None) -> None:
        self._work = json.loads(work)
        self._on_images = on_images
        self._generator: tuple[str, ImageGenerator] | None = None
        self._renderer = functools.lru_cache(maxsize=4)(self._make_renderer)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        number, first_index = int(batch["job"][0]), int(batch["first_index"][0])
        _, uri, batch_size, rows, resources = self._work[number]
        source, renderer = self._renderer(number)
        name = directory_name(source)

        def on_images(count: int) -> None:
            if self._on_images is not None:
                self._on_images(name, count)

        samples = renderer.render(first_index, rows[str(first_index)], batch_size, on_images)
        provenance = {
            "fingerprint": source.fingerprint,
            "source": source.identity,  # the same bytes wherever its images lie
            "class_names": _class_names(source),
            "batch_size": batch_size,
            "kernels": GenerateResources.model_validate_json(resources).kernels,
        }
        entry = write_shard(Storage(uri), samples, provenance=provenance | renderer.provenance())
        return {"job": [number], "entry": [entry.model_dump_json()], "refused": [json.dumps(renderer.take_refusals())]}

    def _make_renderer(self, number: int) -> tuple[AnySource, Renderer]:
        source: AnySource = pydantic.TypeAdapter(Source).validate_json(self._work[number][0])
        resources: str = self._work[number][4]
        if isinstance(source, SyntheticSource) and (self._generator is None or self._generator[0] != resources):
            self._generator = None  # the old one goes before the new one comes, and with it the renderers that hold it
            self._renderer.cache_clear()
            use_given_threads()
            loaded = load_generator(source.generator, GenerateResources.model_validate_json(resources))
            self._generator = (resources, loaded)
        generator = None if self._generator is None else self._generator[1]
        return source, make_renderer(source, generator, prompts_beside(Storage(self._work[number][1])))


def _class_names(source: AnySource) -> list[str] | None:
    """The names by label; None where samples have no label."""
    classes = None if isinstance(source, PairSource) else source.classes
    return None if classes is None else list(class_names(classes))


def check_generator(config: GeneratorConfig, resources: GenerateResources) -> None:
    """Loads a generator once, before a pool of actors does.

    Raises:
        UserError: the model is not there.
        GenerationError: the process died while loading it.
    """
    _once(_check, config, resources)


def _batch_size(config: GeneratorConfig | None, resources: GenerateResources) -> int:
    """As said; or fixed on a CPU; or the largest power of two that the GPU at hand takes."""
    if config is None:
        return 1  # real images are copied one by one
    if resources.batch_size != "auto":
        return resources.batch_size
    if resources.gpus(ray.cluster_resources()) == 0:
        return CPU_BATCH_SIZE
    return _largest_gpu_batch(config.model_dump_json(), resources.model_dump_json())


@functools.cache
def _largest_gpu_batch(config: str, resources: str) -> int:
    """Tried out once for each generator, though many sources are drawn by it."""
    return int(_once(_largest_batch, read_generator(config), GenerateResources.model_validate_json(resources)))


def _once(function: Callable[[str, str], Any], config: GeneratorConfig, resources: GenerateResources) -> Any:
    arguments = (config.model_dump_json(), resources.model_dump_json())
    what = f"generator '{config.model_id}' cannot start"
    return try_once(function, *arguments, resources=resources, error=GenerationError, what=what)


def _load(config: str, resources: str) -> ImageGenerator:
    return load_generator(read_generator(config), GenerateResources.model_validate_json(resources))


def _check(config: str, resources: str) -> None:
    _load(config, resources)


def _largest_batch(config: str, resources: str) -> int:
    import torch

    generator = _load(config, resources)
    batch_size = 1
    while batch_size < LARGEST_GPU_BATCH:
        double = batch_size * 2
        try:  # guided, because an unguided pass needs half the memory and a generator serves every guidance scale
            generator.generate(["a photo"] * double, list(range(double)), 2.0)
        except torch.cuda.OutOfMemoryError:
            break
        batch_size = double
    return batch_size
