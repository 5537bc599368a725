"""CLIP training: an open_clip model from scratch on the first D pairs of a source, or of two with the same captions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from syn_ray.core.config import fingerprint_of
from syn_ray.core.errors import UserError
from syn_ray.train.contrast import Contrast
from syn_ray.train.image_text import ImageTextBatches, check_same_captions, checked_pairs
from syn_ray.train.loop import Plan, Trained, rank_and_workers, train
from syn_ray.train.schedule import clip_batch_size, clip_train_steps, clip_warmup_fraction
from syn_ray.train.streaming import Samples, StreamedBatches, read_ranges, read_whole
from syn_ray.train.windows import WindowedOrder, WindowVisits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from syn_ray.train.clip_config import ClipConfig
    from syn_ray.train.data import Batches
    from syn_ray.train.execution import Execution
    from syn_ray.train.image_text import PairBatch

_COLUMNS = ("sample_index", "image", "text")
_ARMS = ("pair", "synthetic pair")


@dataclass(frozen=True, slots=True)
class TrainedClip(Trained):
    """A finished run."""

    batch_size: int
    """Pairs in one step, over all workers: the configured number, or D where that is smaller."""
    logit_scale: float
    """What cosines are multiplied with, as learnt; at most 100."""


def train_clip(
    config: ClipConfig,
    source: Samples,
    execution: Execution,
    *,
    synthetic: Samples | None = None,
    synthetic_probability: float = 0.5,
    seed: int,
    dataset_size: int | None = None,
) -> TrainedClip:
    """Trains one model; called by each worker where `torch.distributed` is initialised.

    Args:
        config: what to train and how.
        source: columns sample_index, image, text; its first samples are the dataset.
        execution: how.
        synthetic: the same captions with other images, for the mixed arm: at each visit of a caption one of its two
            images is shown.
        synthetic_probability: of the image from `synthetic`.
        seed: fixes the weights at the start, the order of samples, every crop and every choice of an image.
        dataset_size: number of captions D; every row of `source` where it is None.

    Raises:
        TrainingError: the loss is not finite, or the dataset or the checkpoint is not what it should be.
        UserError: the captions of the two sources differ, or the number of workers does not go with the batch size.
    """
    dataset_size = source.num_rows if dataset_size is None else dataset_size
    identity = {"config": config.model_dump(mode="json"), "size": dataset_size, "seed": seed}
    if synthetic is not None:
        identity["synthetic_probability"] = _checked_probability(synthetic_probability)
    total = clip_train_steps(config, dataset_size)
    rank, world_size = rank_and_workers()
    shared: dict[str, Any] = {"rank": rank, "world_size": world_size, "cache_bytes": execution.cache_bytes}
    make = partial(ImageTextBatches, config, seed=seed, synthetic_probability=synthetic_probability, **shared)
    arms = [source] if synthetic is None else [source, synthetic]
    batches: Batches[PairBatch]
    if config.stream is not None and dataset_size > config.stream.window:
        order = WindowedOrder(config.stream, dataset_size, config.batch_size, seed, rank, world_size)
        batches = _streamed(make, arms, order, dataset_size)
        probability = 0.0 if synthetic is None else synthetic_probability
        unique_images = _expected_images(total * config.batch_size, dataset_size, probability)
    else:
        held = _held(make, arms, dataset_size)
        batches, unique_images = held, held.unique_images(total)
    plan = Plan(
        fingerprint=fingerprint_of("clip training run", identity),
        seed=seed,
        dataset_size=dataset_size,
        unique_images=unique_images,
        batch_size=clip_batch_size(config, dataset_size),
        train_steps=total,
        warmup_fraction=clip_warmup_fraction(config, total),
        grad_clip=config.optimizer.grad_clip,
    )
    contrast = Contrast(
        config, seed, torch.device(execution.device), gradient_checkpointing=execution.gradient_checkpointing
    )
    trained = train(contrast, batches, plan, execution)
    values = {field.name: getattr(trained, field.name) for field in fields(trained)}
    return TrainedClip(**values, batch_size=plan.batch_size, logit_scale=contrast.logit_scale)


def _checked_probability(probability: float) -> float:
    if not 0 <= probability <= 1:
        raise UserError(f"synthetic_probability {probability} is no probability; give a number from 0 to 1")
    return probability


def _held(make: Callable[..., ImageTextBatches], arms: Sequence[Samples], dataset_size: int) -> ImageTextBatches:
    """Batches of the whole dataset, shuffled whole."""
    tables = [read_whole(arm, dataset_size, _COLUMNS) for arm in arms]
    pairs = [checked_pairs(table, dataset_size, what) for table, what in zip(tables, _ARMS, strict=False)]
    return _of_arms(make, pairs)


def _streamed(
    make: Callable[..., ImageTextBatches], arms: Sequence[Samples], order: WindowedOrder, dataset_size: int
) -> StreamedBatches[PairBatch]:
    """Batches that are read as training comes to them."""

    def open_window(visits: WindowVisits) -> ImageTextBatches:
        tables = [read_ranges(arm, visits.ranges, _COLUMNS) for arm in arms]
        pairs = [checked_pairs(table, dataset_size, what) for table, what in zip(tables, _ARMS, strict=False)]
        return _of_arms(make, pairs, order=visits, cache_bytes=0)  # a window shows each sample once

    return StreamedBatches(order, open_window)


def _of_arms(make: Callable[..., ImageTextBatches], pairs: Sequence[pa.Table], **how: Any) -> ImageTextBatches:
    if len(pairs) > 1:
        check_same_captions(*pairs)
        how["synthetic"] = pairs[1]
    return make(pairs[0], **how)


def _expected_images(samples_seen: int, dataset_size: int, synthetic_probability: float) -> int:
    """Different images of a streamed dataset that a run is expected to see; nobody keeps a list of billions."""
    visits = samples_seen / dataset_size
    unseen: float = sum((1 - share) ** visits for share in (synthetic_probability, 1 - synthetic_probability))
    return min(samples_seen, round(dataset_size * (2 - unseen)))
