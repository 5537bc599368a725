"""The one training loop: a classifier from scratch on the first D samples of a source.

It reads alone: make the model, take the steps, hand back the model. Whatever makes a run reproducible is a function of
(config, dataset, seed, step). So a run that was stopped continues from its checkpoint bit for bit (on a GPU as far as
its kernels are deterministic), and several workers make the same steps as one, up to float rounding. Dropout and drop
path alone depend on the number of workers: they are drawn per (seed, step, rank).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from syn_ray.core.config import fingerprint_of
from syn_ray.core.errors import TrainingError
from syn_ray.core.seeds import derive_seed
from syn_ray.shards.decode import normalize
from syn_ray.train.augment import erase, mix_pairs, soft_targets
from syn_ray.train.data import Batch, StepBatches, first_samples
from syn_ray.train.model import create_model, create_optimizer, moving_average
from syn_ray.train.schedule import learning_rate_factor, train_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from syn_ray.train.checkpoint import CheckpointFile
    from syn_ray.train.config import ClassifyConfig

REPORT_STEPS = 10
"""Losses are read from the device, checked, reported and checkpoints are written every so many steps."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is; the loss is the mean of the last steps."""

    step: int
    train_steps: int
    loss: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """A finished run: the model in eval mode on its device (its moving average where the config asks for one)."""

    model: torch.nn.Module
    dataset_size: int
    train_steps: int
    samples_seen: int
    epochs: float
    unique_images: int
    seconds: float
    train_loss: float
    """Mean training loss (augmented, smoothed) of the last `REPORT_STEPS` steps."""


def train_classifier(
    config: ClassifyConfig,
    source: pa.Table,
    *,
    num_classes: int,
    seed: int,
    checkpoints: CheckpointFile,
    dataset_size: int | None = None,
    device: torch.device | str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = 60.0,
    loader_workers: int = 0,
    cache_bytes: int = 512 * 2**20,
) -> TrainedClassifier:
    """Trains one model; called by each worker where `torch.distributed` is initialised.

    Args:
        config: what to train and how.
        source: columns sample_index, image, label; its first samples are the dataset.
        num_classes: labels are 0 to num_classes - 1.
        seed: fixes the weights at the start, the order of samples and every augmentation.
        checkpoints: where the run is continued from, and saved by the first worker.
        dataset_size: number of distinct images D; every row of `source` where it is None.
        device: of this worker.
        on_progress: called every `REPORT_STEPS` steps; what it raises ends the run.
        checkpoint_seconds: least time between two checkpoints; 0 saves at every report.
        loader_workers: processes that decode and augment; 0 does it in this one.
        cache_bytes: decoded images are kept in memory when all of them fit.

    Raises:
        TrainingError: the loss is not finite, or the dataset or the checkpoint is not what it should be.
        UserError: the number of workers does not go with the batch size.
    """
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    dataset_size = source.num_rows if dataset_size is None else dataset_size
    samples = first_samples(source, dataset_size, num_classes)
    batches = StepBatches(config, samples, seed, rank=rank, world_size=world_size, cache_bytes=cache_bytes)
    total = train_steps(config.steps, dataset_size)
    identity = {"config": config.model_dump(mode="json"), "size": dataset_size, "classes": num_classes, "seed": seed}
    fingerprint = fingerprint_of("training run", identity)

    with _own_rng(device):
        run = _Run(config, num_classes, seed, total, torch.device(device))
        run.restore(checkpoints.load(fingerprint))
        loader = batches.loader(run.step, total, loader_workers, pin_memory=run.on_gpu)
        losses: list[torch.Tensor] = []
        saved = time.monotonic()
        for batch in loader:
            torch.manual_seed(derive_seed(seed, "step", run.step, rank))  # dropout and drop path
            losses.append(run.take_step(batch))
            if run.step % REPORT_STEPS and run.step < total:
                continue
            loss = _checked_mean(losses, run.step, checkpoints.display)
            if on_progress is not None:
                on_progress(run.progress(loss, len(losses)))
            if rank == 0 and run.step < total and time.monotonic() - saved >= checkpoint_seconds:
                checkpoints.save(run.state(), fingerprint)
                saved = time.monotonic()
            losses = []
        return run.finished(dataset_size, loss)


class _Run:
    """Model, optimizer, schedule and average of one run, and the step that moves them."""

    def __init__(
        self, config: ClassifyConfig, num_classes: int, seed: int, total_steps: int, device: torch.device
    ) -> None:
        self.config = config
        self.device = device
        self.on_gpu = device.type == "cuda"
        self.num_classes = num_classes
        self.total_steps = total_steps
        self.step = 0
        self._started = self._reported = time.monotonic()
        self.model = create_model(config, num_classes, seed).to(device)
        self.average = moving_average(self.model, config.optimizer.ema_decay) if config.optimizer.ema_decay else None
        self.optimizer = create_optimizer(self.model, config.optimizer)
        warmup = config.optimizer.warmup_fraction
        self.schedule = LambdaLR(self.optimizer, lambda step: learning_rate_factor(step, total_steps, warmup))
        self.parallel = self.model
        if dist.is_initialized() and dist.get_world_size() > 1:
            self.parallel = DistributedDataParallel(self.model, device_ids=[device] if self.on_gpu else None)

    def take_step(self, batch: Batch) -> torch.Tensor:
        """One optimizer step; the loss stays on the device, so that a GPU is not waited for."""
        images, targets = self._on_device(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logits = self.parallel(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        if self.config.optimizer.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.grad_clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def _on_device(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.config
        images = normalize(batch.images.to(self.device, non_blocking=True), config.mean, config.std)
        labels = batch.labels.to(self.device, non_blocking=True)
        targets = soft_targets(labels, self.num_classes, config.label_smoothing)
        if config.augment.erase_probability:
            images = erase(images, batch.erasing, config.augment.erase_probability)
        if config.mixes:
            images, targets = mix_pairs(images, targets, batch.mix)
        return images, targets

    def progress(self, loss: float, steps: int) -> Progress:
        """Where the run is, `steps` steps after it was last asked."""
        now = time.monotonic()
        speed = steps * self.config.batch_size / max(now - self._reported, 1e-9)
        self._reported = now
        return Progress(self.step, self.total_steps, loss, float(self.schedule.get_last_lr()[0]), speed)

    def state(self) -> dict[str, Any]:
        """Everything that does not follow from the step."""
        return {
            "step": self.step,
            "seconds": time.monotonic() - self._started,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continues from a checkpoint."""
        if state is None:
            return
        self.step = state["step"]
        self._started -= state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def finished(self, dataset_size: int, loss: float) -> TrainedClassifier:
        """The result of a run whose last step is taken."""
        seen = self.step * self.config.batch_size
        return TrainedClassifier(
            model=(self.model if self.average is None else self.average.module).eval(),
            dataset_size=dataset_size,
            train_steps=self.step,
            samples_seen=seen,
            epochs=seen / dataset_size,
            unique_images=min(seen, dataset_size),
            seconds=time.monotonic() - self._started,
            train_loss=loss,
        )


def _checked_mean(losses: list[torch.Tensor], step: int, run: str) -> float:
    """The mean of the last losses over all workers.

    Raises:
        TrainingError: at the first that is not finite, in every worker.
    """
    means = torch.stack(losses)
    if dist.is_initialized():
        dist.all_reduce(means)
        means = means / dist.get_world_size()
    wrong = (~means.isfinite()).nonzero()
    if len(wrong):
        first = int(wrong[0])
        raise TrainingError(
            f"{run}: the loss of step {step - len(losses) + first + 1} is {means[first].item()}; lower "
            "optimizer.learning_rate, raise optimizer.warmup_fraction, or set optimizer.grad_clip"
        )
    return float(means.mean())


@contextlib.contextmanager
def _own_rng(device: torch.device | str) -> Iterator[None]:
    """Whoever calls the loop finds torch's global rng as it was."""
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
