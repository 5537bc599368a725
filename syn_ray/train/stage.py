"""Ray Train: one group of workers trains several runs of a source one after the other.

The start of a group costs seconds, so the dataset sizes and seeds of a curve share one. What is finished is what has
its artifact: a restarted group skips it, and continues the run in hand from its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
import ray.train
import ray.train.torch
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

from syn_ray.actors import use_given_threads
from syn_ray.core.artifact import Artifact, read_artifact, write_artifact
from syn_ray.core.errors import MissingResultError, SynRayError, TrainingError, UserError, root_cause
from syn_ray.core.resources import TrainResources
from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import ShardEntry
from syn_ray.shards.reader import open_source, read_shard
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.config import ClassifyConfig
from syn_ray.train.execution import Execution, Progress
from syn_ray.train.run import Run

if TYPE_CHECKING:
    from syn_ray.train.loop import Trained
    from syn_ray.train.streaming import Samples

OnProgress = Callable[[str, Progress], None]
"""Called in the first worker with a run's name. Must pickle."""


def train_runs(
    runs: Sequence[Run], resources: TrainResources, state: Storage, on_progress: OnProgress | None = None
) -> list[Artifact]:
    """Trains those of the runs, all of one source, that are not finished.

    Args:
        runs: in the order in which they are to be trained.
        resources: workers and what each holds.
        state: where Ray Train keeps its own records.
        on_progress: progress.

    Returns:
        The runs' artifacts in order; `result` has train_steps, samples_seen, epochs, unique_images and train_loss, of
        CLIP also batch_size and logit_scale.

    Raises:
        UserError: the source lacks samples, or does not fit the object store, or the captions of a mixed one's real
            and synthetic images differ.
        TrainingError: a loss that is not finite, or workers that keep failing.
    """
    missing = [run for run in runs if read_artifact(run.directory, run.fingerprint) is None]
    if missing:
        held = [run for run in missing if not run.is_streamed]
        largest = max(held, key=lambda run: run.dataset_size, default=None)
        samples = [] if largest is None else [data.to_arrow_refs() for data in _load(largest, resources)]
        on_gpu = resources.on_gpu(ray.cluster_resources())
        trainer = ray.train.torch.TorchTrainer(
            _train_all,
            train_loop_config={
                "runs": missing,
                "samples": samples,
                "resources": resources,
                "on_progress": on_progress,
            },
            scaling_config=ScalingConfig(
                num_workers=resources.num_workers,
                use_gpu=on_gpu,
                resources_per_worker={"CPU": resources.cpus_per_worker} | ({"GPU": 1} if on_gpu else {}),
                label_selector=resources.label_selector,
            ),
            run_config=RunConfig(
                name=f"{missing[0].name}-{time.time_ns():x}",
                storage_path=state.display,
                failure_config=FailureConfig(
                    max_failures=resources.max_failures, controller_failure_limit=resources.max_failures
                ),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            mistake = trainer.fit().return_value
        except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
            raise root_cause(error, TrainingError, f"training '{missing[0].curve}' failed") from error
        if mistake is not None:
            raise mistake
    return [_finished(run) for run in runs]


def _load(run: Run, resources: TrainResources) -> list[ray.data.Dataset]:
    """The encoded images that a run needs, read by Ray Data and held in the object store; one for each directory."""
    shards = [open_source(images).prefix(run.dataset_size) for images in run.images]
    size_bytes = sum(shard.size_bytes for part in shards for shard in part)
    room = _object_store_bytes(resources)
    if room is not None and size_bytes > room:
        what = f"{run.dataset_size} images of '{run.images[0].display}'" + " and as many synthetic ones" * (
            len(shards) - 1
        )
        raise UserError(
            f"{what} take {size_bytes / 1e9:.1f} GB and the object store of a node that trains holds {room / 1e9:.1f} "
            "GB; have them streamed (train.stream in the study), give Ray more (object_store_bytes in the resources "
            "file for a Ray started here, --object-store-memory in `ray start` on a cluster) or save smaller images"
        )
    target = "label" if run.config.objective == "classify" else "text"
    return [
        _read(images, part, ["sample_index", "image", target]) for images, part in zip(run.images, shards, strict=True)
    ]


def _read(images: Storage, shards: Sequence[ShardEntry], columns: Sequence[str]) -> ray.data.Dataset:
    def read(batch: dict[str, Any]) -> pa.Table:
        return read_shard(images, ShardEntry.model_validate_json(str(batch["shard"][0])), columns)

    rows = [{"shard": shard.model_dump_json()} for shard in shards]
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(read, batch_size=1).materialize()


def _object_store_bytes(resources: TrainResources) -> float | None:
    """The smallest object store among the nodes that a worker fits on: each holds the whole set. None: none is up."""
    needed = {"CPU": resources.cpus_per_worker, "GPU": float(resources.on_gpu(ray.cluster_resources()))}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = [node for node in nodes if all(node.get(name, 0) >= least for name, least in needed.items())]
    return min((float(node["object_store_memory"]) for node in fitting), default=None)


def _train_all(config: dict[str, Any]) -> SynRayError | None:
    """Runs in every worker. A mistake that a retry would repeat is handed back instead of raised.

    Of several workers one may make it alone (a broken image in its share); then the others wait for it in a collective
    operation, and only an exception ends the group.
    """
    from syn_ray.train.streaming import ShardedSamples

    use_given_threads()
    held = [_table(blocks) for blocks in config["samples"]]
    for run in config["runs"]:
        try:
            samples = [ShardedSamples(images, run.dataset_size) for images in run.images] if run.is_streamed else held
            _train_one(run, samples, config["resources"], config["on_progress"])
        except SynRayError as mistake:
            if ray.train.get_context().get_world_size() > 1:
                raise
            return mistake
    return None


def _table(blocks: Any) -> pa.Table:
    """The blocks in the order of their samples, as a view of the object store."""
    found: list[pa.Table] = [block for block in ray.get(blocks) if block.num_rows]
    return pa.concat_tables(sorted(found, key=lambda block: block["sample_index"][0].as_py()))


def _train_one(run: Run, samples: Sequence[Samples], resources: TrainResources, on_progress: OnProgress | None) -> None:
    # Loaded by the workers alone: the trial and Ray Train's controller, which import this module, do without.
    import torch.distributed as dist

    from syn_ray.train.checkpoint import CheckpointFile

    if read_artifact(run.directory, run.fingerprint) is not None:
        return  # finished before the group was restarted
    first = ray.train.get_context().get_world_rank() == 0
    checkpoints = CheckpointFile(run.directory, run=run.source_fingerprint)

    def report(progress: Progress) -> None:
        if first and on_progress is not None:
            on_progress(run.name, progress)

    execution = Execution(
        checkpoints=checkpoints,
        device=ray.train.torch.get_device(),
        on_progress=report,
        checkpoint_seconds=resources.checkpoint_seconds,
        loader_workers=resources.loaders,
        cache_bytes=resources.decoded_cache_bytes,
        gradient_checkpointing=resources.gradient_checkpointing,
    )
    fit = _fit_classifier if run.config.objective == "classify" else _fit_clip
    trained = fit(run, samples, execution, export=first)
    if first:
        _write(run, trained.seconds, {name: getattr(trained, name) for name in RESULT if hasattr(trained, name)})
        checkpoints.delete()
    if dist.is_initialized():
        dist.barrier()  # nobody looks for the artifact of this run before it is there


def _fit_classifier(run: Run, samples: Sequence[Samples], execution: Execution, *, export: bool) -> Trained:
    from syn_ray.train.checkpoint import export_model
    from syn_ray.train.classify import train_classifier

    assert isinstance(run.config, ClassifyConfig)
    assert run.num_classes is not None
    trained = train_classifier(
        run.config, samples[0], execution, num_classes=run.num_classes, seed=run.seed, dataset_size=run.dataset_size
    )
    if export:
        export_model(trained.model, run.config, run.directory)
    return trained


def _fit_clip(run: Run, samples: Sequence[Samples], execution: Execution, *, export: bool) -> Trained:
    from syn_ray.train.clip import train_clip
    from syn_ray.train.clip_model import export_clip

    assert isinstance(run.config, ClipConfig)
    mixed: dict[str, Any] = {}
    if run.synthetic_probability is not None:
        mixed = {"synthetic": samples[1], "synthetic_probability": run.synthetic_probability}
    trained = train_clip(run.config, samples[0], execution, seed=run.seed, dataset_size=run.dataset_size, **mixed)
    if export:
        export_clip(trained.model, run.config, run.directory)
    return trained


RESULT = (
    "dataset_size",
    "train_steps",
    "samples_seen",
    "epochs",
    "unique_images",
    "train_loss",
    "batch_size",
    "logit_scale",
)


def _write(run: Run, seconds: float, result: dict[str, Any]) -> None:
    write_artifact(
        run.directory,
        kind="run",
        name=run.name,
        fingerprint=run.fingerprint,
        config=run.identity,
        parents={run.curve: run.source_fingerprint},
        seconds=seconds,
        result=result,
    )


def _finished(run: Run) -> Artifact:
    artifact = read_artifact(run.directory, run.fingerprint)
    if artifact is None:
        raise MissingResultError(f"run '{run.name}' ended without its artifact; run again")
    return artifact
