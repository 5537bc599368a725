"""Supervised training: a classifier from scratch on the first D samples of a source."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from syn_ray.core.config import fingerprint_of
from syn_ray.shards.decode import normalize
from syn_ray.train.augment import erase, mix_pairs, soft_targets
from syn_ray.train.data import Batch, StepBatches, checked_labels
from syn_ray.train.drop_path import share_drop_path
from syn_ray.train.loop import Objective, Plan, Trained, in_parallel, rank_and_workers, train
from syn_ray.train.model import create_model, create_optimizer
from syn_ray.train.schedule import train_steps
from syn_ray.train.streaming import Samples, StreamedBatches, read_ranges, read_whole
from syn_ray.train.windows import WindowedOrder, WindowVisits

if TYPE_CHECKING:
    from syn_ray.train.config import ClassifyConfig
    from syn_ray.train.data import Batches
    from syn_ray.train.execution import Execution

_COLUMNS = ("sample_index", "image", "label")


def train_classifier(
    config: ClassifyConfig,
    source: Samples,
    execution: Execution,
    *,
    num_classes: int,
    seed: int,
    dataset_size: int | None = None,
) -> Trained:
    """Trains one model; called by each worker where `torch.distributed` is initialised.

    Args:
        config: what to train and how.
        source: columns sample_index, image, label; its first samples are the dataset.
        execution: how.
        num_classes: labels are 0 to num_classes - 1.
        seed: fixes the weights at the start, the order of samples and every augmentation.
        dataset_size: number of distinct images D; every row of `source` where it is None.

    Raises:
        TrainingError: the loss is not finite, or the dataset or the checkpoint is not what it should be.
        UserError: the number of workers does not go with the batch size.
    """
    rank, world_size = rank_and_workers()
    dataset_size = source.num_rows if dataset_size is None else dataset_size
    make = partial(StepBatches, config, seed=seed, rank=rank, world_size=world_size)
    batches: Batches[Batch]
    if config.stream is not None and dataset_size > config.stream.window:
        order = WindowedOrder(config.stream, dataset_size, config.batch_size, seed, rank, world_size)

        def open_window(visits: WindowVisits) -> StepBatches:
            samples = checked_labels(read_ranges(source, visits.ranges, _COLUMNS), num_classes)
            return make(samples, order=visits, cache_bytes=0)  # a window shows each sample once

        batches = StreamedBatches(order, open_window)
    else:
        whole = checked_labels(read_whole(source, dataset_size, _COLUMNS), num_classes)
        batches = make(whole, cache_bytes=execution.cache_bytes)
    total = train_steps(config.steps, dataset_size)
    identity = {"config": config.model_dump(mode="json"), "size": dataset_size, "classes": num_classes, "seed": seed}
    plan = Plan(
        fingerprint=fingerprint_of("training run", identity),
        seed=seed,
        dataset_size=dataset_size,
        unique_images=min(total * config.batch_size, dataset_size),
        batch_size=config.batch_size,
        train_steps=total,
        warmup_fraction=config.optimizer.warmup_fraction,
        grad_clip=config.optimizer.grad_clip,
        ema_decay=config.optimizer.ema_decay,
    )
    return train(Classification(config, num_classes, seed, torch.device(execution.device)), batches, plan, execution)


class Classification(Objective[Batch]):
    """Cross-entropy of the right class, or of soft targets where images are mixed or labels smoothed."""

    def __init__(self, config: ClassifyConfig, num_classes: int, seed: int, device: torch.device) -> None:
        self._config = config
        self._num_classes = num_classes
        self._device = device
        # Channels innermost: a CPU's max-pool is ten times as fast over them, and GPUs' convolutions want them so.
        model = create_model(config, num_classes, seed)
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        share_drop_path(self.model, *rank_and_workers())
        self.optimizer = create_optimizer(self.model, config.optimizer)
        self._parallel = in_parallel(self.model, device)

    def backward(self, batch: Batch, seed: int) -> torch.Tensor:  # noqa: ARG002 (one forward pass: nothing is drawn again)
        images, targets = self._on_device(batch)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.precision == "bfloat16"):
            logits = self._parallel(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        return loss

    def _on_device(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        config = self._config
        images = normalize(batch.images.to(self._device, non_blocking=True), config.mean, config.std)
        labels = batch.labels.to(self._device, non_blocking=True)
        targets = soft_targets(labels, self._num_classes, config.label_smoothing)
        if config.augment.erase_probability:
            images = erase(images, batch.erasing, config.augment.erase_probability)
        if config.mixes:
            images, targets = mix_pairs(images, targets, batch.mix)
        return images.contiguous(memory_format=torch.channels_last), targets
