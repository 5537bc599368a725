"""The one training loop, whatever is trained: takes the steps, reports, saves, and hands back the model.

An objective (`classify`, `clip`) brings the model, its optimizer and the gradients of a batch. Whatever makes a run
reproducible is a function of (config, dataset, seed, step). So a run that was stopped continues from its checkpoint bit
for bit (on a GPU as far as its kernels are deterministic), and several workers make the same steps as one, up to float
rounding. Dropout that a model brings of its own alone depends on the number of workers; drop path does not.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from syn_ray.core.errors import TrainingError
from syn_ray.core.seeds import derive_seed
from syn_ray.train.execution import Progress
from syn_ray.train.model import moving_average
from syn_ray.train.schedule import learning_rate_factor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syn_ray.train.data import Batches
    from syn_ray.train.execution import Execution

REPORT_STEPS = 10
"""Losses are read from the device, checked, reported and checkpoints are written every so many steps."""

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop has to know of a run, whatever its objective."""

    fingerprint: str
    """Of everything that the weights depend on, apart from the images; a checkpoint of another is refused."""
    seed: int
    dataset_size: int
    unique_images: int
    """Different images that the run sees."""
    batch_size: int
    """Samples in one step, over all workers."""
    train_steps: int
    warmup_fraction: float
    grad_clip: float
    ema_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the model in eval mode on its device (its moving average where the config asks for one)."""

    model: torch.nn.Module
    dataset_size: int
    train_steps: int
    samples_seen: int
    epochs: float
    unique_images: int
    seconds: float
    train_loss: float
    """Mean training loss (of augmented images) of the last `REPORT_STEPS` steps."""


class Objective(Generic[B]):
    """What is trained; `model` and `optimizer` are set by whoever derives from it."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def backward(self, batch: B, seed: int) -> torch.Tensor:
        """Adds a batch's gradients to the parameters'.

        Args:
            batch: this worker's share.
            seed: of this step, the same for all workers; torch's global rng has been seeded with it.

        Returns:
            The loss; it stays on the device, so that a GPU is not waited for.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Keeps the weights within their limits once the optimizer has moved them."""


def train(
    objective: Objective[B],
    batches: Batches[B],
    plan: Plan,
    execution: Execution,
) -> Trained:
    """Takes every step of a plan, from the checkpoint on where there is one.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint is not what it should be.
    """
    rank, _ = rank_and_workers()
    checkpoints = execution.checkpoints
    with _own_rng(execution.device):
        run = _Run(objective, plan)
        run.restore(checkpoints.load(plan.fingerprint))
        on_gpu = torch.device(execution.device).type == "cuda"
        loader = batches.loader(run.step, plan.train_steps, execution.loader_workers, pin_memory=on_gpu)
        losses: list[torch.Tensor] = []
        saved = time.monotonic()
        for batch in loader:
            step_seed = derive_seed(plan.seed, "step", run.step, 0)
            torch.manual_seed(step_seed)  # drop path and dropout
            losses.append(run.take_step(batch, step_seed))
            if run.step % REPORT_STEPS and run.step < plan.train_steps:
                continue
            loss = _checked_mean(losses, run.step, checkpoints.display)
            if execution.on_progress is not None:
                execution.on_progress(run.progress(loss, len(losses)))
            due = time.monotonic() - saved >= execution.checkpoint_seconds
            if rank == 0 and run.step < plan.train_steps and due:
                checkpoints.save(run.state(), plan.fingerprint)
                saved = time.monotonic()
            losses = []
        return run.finished(loss)


def rank_and_workers() -> tuple[int, int]:
    """This worker's number and how many there are; 0 and 1 without `torch.distributed`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def in_parallel(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model as it is called in training: with several workers, one that averages their gradients."""
    if rank_and_workers()[1] == 1:
        return model
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


class _Run(Generic[B]):
    """Schedule, average and step of one run, and the step that moves the weights."""

    def __init__(self, objective: Objective[B], plan: Plan) -> None:
        self.objective = objective
        self.model, self.optimizer = objective.model, objective.optimizer
        self.plan = plan
        self.step = 0
        self._started = self._reported = time.monotonic()
        self.average = moving_average(self.model, plan.ema_decay) if plan.ema_decay else None
        total, warmup = plan.train_steps, plan.warmup_fraction
        self.schedule = LambdaLR(self.optimizer, lambda step: learning_rate_factor(step, total, warmup))

    def take_step(self, batch: B, seed: int) -> torch.Tensor:
        """One optimizer step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.objective.backward(batch, seed)
        if self.plan.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.grad_clip)
        self.optimizer.step()
        self.schedule.step()
        self.objective.after_step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        return loss.detach()

    def progress(self, loss: float, steps: int) -> Progress:
        """Where the run is, `steps` steps after it was last asked."""
        now = time.monotonic()
        speed = steps * self.plan.batch_size / max(now - self._reported, 1e-9)
        self._reported = now
        return Progress(self.step, self.plan.train_steps, loss, float(self.schedule.get_last_lr()[0]), speed)

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

    def finished(self, loss: float) -> Trained:
        """The result of a run whose last step is taken."""
        seen = self.step * self.plan.batch_size
        return Trained(
            model=(self.model if self.average is None else self.average.module).eval(),
            dataset_size=self.plan.dataset_size,
            train_steps=self.step,
            samples_seen=seen,
            epochs=seen / self.plan.dataset_size,
            unique_images=self.plan.unique_images,
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
