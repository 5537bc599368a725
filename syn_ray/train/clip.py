"""CLIP training: an open_clip model from scratch on the first D pairs of a source, or of two with the same captions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from syn_ray.core.config import fingerprint_of
from syn_ray.core.errors import UserError
from syn_ray.train.contrast import Contrast
from syn_ray.train.image_text import ImageTextBatches, check_same_captions, first_pairs
from syn_ray.train.loop import Plan, Trained, rank_and_workers, train
from syn_ray.train.schedule import clip_batch_size, clip_train_steps, clip_warmup_fraction

if TYPE_CHECKING:
    import pyarrow as pa

    from syn_ray.train.clip_config import ClipConfig
    from syn_ray.train.execution import Execution


@dataclass(frozen=True, slots=True)
class TrainedClip(Trained):
    """A finished run."""

    batch_size: int
    """Pairs in one step, over all workers: the configured number, or D where that is smaller."""
    logit_scale: float
    """What cosines are multiplied with, as learnt; at most 100."""


def train_clip(
    config: ClipConfig,
    source: pa.Table,
    execution: Execution,
    *,
    synthetic: pa.Table | None = None,
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
    rank, world_size = rank_and_workers()
    dataset_size = source.num_rows if dataset_size is None else dataset_size
    pairs = first_pairs(source, dataset_size)
    identity = {"config": config.model_dump(mode="json"), "size": dataset_size, "seed": seed}
    if synthetic is not None:
        synthetic = first_pairs(synthetic, dataset_size, "synthetic pair")
        check_same_captions(pairs, synthetic)
        identity["synthetic_probability"] = _checked_probability(synthetic_probability)
    batches = ImageTextBatches(
        config,
        pairs,
        seed,
        synthetic=synthetic,
        synthetic_probability=synthetic_probability,
        rank=rank,
        world_size=world_size,
        cache_bytes=execution.cache_bytes,
    )
    total = clip_train_steps(config, dataset_size)
    plan = Plan(
        fingerprint=fingerprint_of("clip training run", identity),
        seed=seed,
        dataset_size=dataset_size,
        unique_images=batches.unique_images(total),
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
