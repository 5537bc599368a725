"""Resources: how a study is computed. Nothing here is fingerprinted: it moves a result by float rounding at most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic

from syn_ray.core.config import validate
from syn_ray.core.yaml_file import read_yaml


class _Resources(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class _StageResources(_Resources):
    cluster: dict[str, pydantic.NonNegativeFloat] = pydantic.Field(default_factory=dict)
    """What the cluster can grow to, e.g. {CPU: 128, GPU: 16}; `auto` counts on it. Given once for all stages."""
    label_selector: dict[str, str] | None = None
    """Ray node labels that the work is placed by, e.g. {"syn/market": "spot"}."""

    def grown(self, cluster: Mapping[str, float]) -> dict[str, float]:
        """What a cluster with these resources (`ray.cluster_resources()`) has or can grow to."""
        return {name: max(cluster.get(name, 0.0), self.cluster.get(name, 0.0)) for name in {*cluster, *self.cluster}}


class PoolResources(_StageResources):
    """A pool of Ray Data actors, each holding one model."""

    max_actors: pydantic.PositiveInt | Literal["auto"] = "auto"
    """`auto`: as many as the cluster has, or can grow to have, room for."""
    cpus_per_actor: pydantic.PositiveFloat = 1.0
    """Logical CPUs that an actor holds; more leave room for what decodes and encodes beside the model."""
    gpus_per_actor: pydantic.NonNegativeFloat | Literal["auto"] = "auto"
    """`auto`: 1 where the cluster has GPUs or can grow to have them, else 0."""
    batch_size: pydantic.PositiveInt | Literal["auto"] = "auto"
    """Images in one forward pass. A source keeps the batch size it was started with."""

    def gpus(self, cluster: Mapping[str, float]) -> float:
        """GPUs of one actor, on a cluster with these resources (`ray.cluster_resources()`)."""
        if self.gpus_per_actor != "auto":
            return self.gpus_per_actor
        return 1.0 if self.grown(cluster).get("GPU", 0) >= 1 else 0.0

    def actors(self, cluster: Mapping[str, float], gpus: float, rows: int) -> int:
        """The most actors that a pool with this many rows to do may have."""
        if self.max_actors != "auto":
            return min(self.max_actors, rows)
        grown = self.grown(cluster)
        room = grown.get("GPU", 0) / gpus if gpus else grown.get("CPU", 1) / self.cpus_per_actor
        return max(1, min(int(room), rows))


class GenerateResources(PoolResources):
    """A pool that makes images, or the texts they are asked for by."""

    shard_size: pydantic.PositiveInt | Literal["auto"] = "auto"
    """Images in one shard, the unit of work. `auto`: the smallest dataset size, at most 1024; fixed at the start."""
    check_bytes: pydantic.NonNegativeInt = 4 * 2**30
    """A rerun compares the sha256 of every shard of a source up to this many bytes; beyond it, names and sizes."""
    placement: Literal["device", "balanced", "model_offload", "sequential_offload"] = "device"
    """Where a pipeline's parts lie: all on the actor's GPU; spread over its GPUs; or in host memory, of which whole
    models or single layers visit the GPU. All but the first need the package `accelerate`; none matters without a GPU.
    """
    text_encoder: Literal["host", "reload", "device"] = "host"
    """Where Imagen's T5 is while the UNets draw: in host memory (10 GB for T5-XXL in half precision), dropped and read
    from disk again for each shard, or on the GPU beside them."""
    compile: bool = False
    """torch.compile for the denoiser: minutes before the first image of each actor."""
    channels_last: bool = False
    """Convolutions with channels as the innermost dimension: faster on most GPUs."""
    vae_slicing: bool = False
    """The autoencoder decodes one image at a time: less memory."""

    @property
    def kernels(self) -> dict[str, bool]:
        """What may move the last bit of an image: recorded with a source when it is started, and kept."""
        return {"compile": self.compile, "channels_last": self.channels_last, "vae_slicing": self.vae_slicing}


class EvaluateResources(PoolResources):
    """A pool that judges trained models."""

    decoded_cache_bytes: pydantic.NonNegativeInt = 4 * 2**30
    """Room of an actor for decoded evaluation sets; what does not fit is decoded again for each model."""


class TrainResources(_StageResources):
    """Workers that train one model together."""

    num_workers: pydantic.PositiveInt = 1
    """Processes that train one model together, each on a share of every batch."""
    use_gpu: bool | Literal["auto"] = "auto"
    """One GPU for each worker. `auto`: where the cluster has GPUs or can grow to have them."""
    cpus_per_worker: pydantic.PositiveFloat = 1.0
    """Logical CPUs that a worker holds, its loader processes included."""
    loader_workers: pydantic.NonNegativeInt | Literal["auto"] = "auto"
    """Processes that decode images for each training worker; 0 decodes in the worker itself. `auto`: as many as the
    worker has CPUs, less one."""
    decoded_cache_bytes: pydantic.NonNegativeInt = 512 * 2**20
    """Decoded images are kept in memory when all of them fit."""
    checkpoint_seconds: pydantic.PositiveFloat = 60.0
    """At most this much training is lost to a crash."""
    gradient_checkpointing: bool = False
    """CLIP's activations are computed again instead of kept: less memory, a quarter more time, the same result."""
    max_failures: pydantic.NonNegativeInt = 3
    """How often a group of workers is started again before a run counts as failed."""

    def on_gpu(self, cluster: Mapping[str, float]) -> bool:
        """Whether workers train on GPUs, on a cluster with these resources."""
        return self.use_gpu if self.use_gpu != "auto" else self.grown(cluster).get("GPU", 0) >= 1

    @property
    def loaders(self) -> int:
        """Loader processes of one worker."""
        return max(0, int(self.cpus_per_worker) - 1) if self.loader_workers == "auto" else self.loader_workers

    def groups(self, cluster: Mapping[str, float]) -> int:
        """How many groups of workers have room at a time; at least one, which then waits."""
        grown = self.grown(cluster)
        room = grown.get("CPU", 1) / (self.cpus_per_worker * self.num_workers)
        if self.on_gpu(cluster):
            room = min(room, grown.get("GPU", 0) / self.num_workers)
        return max(1, int(room))


class Resources(_Resources):
    """How a study is computed; the file given by `--resources`."""

    cluster: dict[str, pydantic.NonNegativeFloat] = pydantic.Field(default_factory=dict)
    """What an autoscaling cluster can grow to, e.g. {CPU: 128, GPU: 16}: before its nodes have joined, nobody else
    knows."""

    prompts: GenerateResources = GenerateResources()
    """For prompt sets that a model writes."""
    generate: GenerateResources = GenerateResources()
    score: PoolResources = PoolResources()
    train: TrainResources = TrainResources()
    evaluate: EvaluateResources = EvaluateResources()
    max_concurrent_trials: pydantic.PositiveInt | Literal["auto"] = "auto"
    """Curves worked on at a time. `auto`: as many as training workers fit the cluster."""
    num_cpus: pydantic.PositiveInt | None = None
    """Logical CPUs of a Ray that is started for this run; ignored on an existing cluster."""
    object_store_bytes: pydantic.PositiveInt | None = None
    """Shared memory of a Ray that is started for this run, where the encoded images of a training set lie; ignored on
    an existing cluster. None: 512 MiB."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _share_cluster(cls, data: Any) -> Any:
        """`cluster` is given once and known to every stage."""
        if not isinstance(data, dict) or "cluster" not in data:
            return data
        cluster = data["cluster"]
        stages = ("prompts", "generate", "score", "train", "evaluate")
        return data | {name: {"cluster": cluster} | (data.get(name) or {}) for name in stages}


def load_resources(path: Path | None) -> Resources:
    """Reads a resources file; without one, everything is `auto`."""
    if path is None:
        return Resources()
    return validate(Resources, read_yaml(path, "resources file") or {}, str(path))
