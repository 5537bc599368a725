"""What the training scripts share: a budget in minutes, its learning rate, averaged weights, resume.

A budget in minutes keeps the scripts useful on any machine; each log and checkpoint has the steps that it bought.
"""

import copy
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

_logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 150.0
Module = TypeVar("Module", bound=nn.Module)


class Budget:
    """How much of the training time is gone, also over restarts."""

    def __init__(self, minutes: float) -> None:
        self.seconds = minutes * 60
        self.spent_before = 0.0
        self._start = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds trained so far."""
        return self.spent_before + time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """From 0 at the start to 1 at the end."""
        return min(1.0, self.spent / self.seconds)


def learning_rate(peak: float, progress: float, warmup: float = 0.03) -> float:
    """Linear warm-up over the first part of the budget, then a cosine to 0."""
    if progress < warmup:
        return peak * max(progress / warmup, 0.02)
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class Average:
    """An exponential moving average of a module's weights (and a plain copy of its buffers)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes one step's weights in; the first steps weigh more, so that the start is forgotten soon."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.module.parameters()), [p.detach() for p in module.parameters()], 1 - decay)
        for mine, other in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(other)


def join_processes() -> None:
    """Joins the processes that torchrun started; without torchrun there is one, and nothing to join."""
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")


def place() -> tuple[int, int]:
    """This process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wait_for_all() -> None:
    """Waits until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def average_gradients(model: nn.Module, progress: float) -> float:
    """Averages gradients over all processes, in place; returns the averaged progress, so that all stop at one step."""
    if not dist.is_initialized():
        return progress
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients] + [torch.tensor([progress])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients] + [1])[:-1], strict=True):
        gradient.copy_(part.view_as(gradient))
    return float(flat[-1])


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets one rate for all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes the state under a temporary name and renames it: a crash leaves the old one or the new one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
    _logger.info("checkpoint %s", path)


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of all processes' tensors, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def same_in_all_processes(values: Tensor) -> Tensor:
    """The first process's tensor, in place."""
    if dist.is_initialized():
        dist.broadcast(values, src=0)
    return values


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        minutes: the budget, restarts included.
        batch_size: of one process.
        peak_learning_rate: see `learning_rate`.
        average_decay: of the averaged weights.
        weight_decay: AdamW's.
    """

    minutes: float
    batch_size: int
    peak_learning_rate: float = 1e-3
    average_decay: float = 0.999
    weight_decay: float = 0.01


class _State:
    """All that changes in a training, and its file."""

    def __init__(self, model: nn.Module, recipe: Recipe, checkpoint: Path) -> None:
        self.model, self.checkpoint = model, checkpoint
        trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trainable, lr=recipe.peak_learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay, fused=True
        )
        self.average, self.budget, self.step = Average(model, recipe.average_decay), Budget(recipe.minutes), 0
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            model.load_state_dict(state["model"])
            self.average.module.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average.steps = self.step = state["step"]
            self.budget.spent_before = state["spent"]

    def save(self) -> None:
        """Writes the checkpoint, in the first process only."""
        if place()[0] > 0:
            return
        parts = {
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.checkpoint, {**parts, "step": self.step, "spent": self.budget.spent})


def train(
    model: Module,
    loss_of: Callable[[np.random.Generator, float], Tensor],
    recipe: Recipe,
    checkpoint: Path,
    on_checkpoint: Callable[[Module, float], None] | None = None,
    seed: int = 0,
) -> Module:
    """The averaged model after so many minutes; goes on from the checkpoint where there is one.

    Args:
        model: trained in place; its average is what is returned.
        loss_of: the loss of one batch, which it draws itself, given an rng and the progress from 0 to 1.
        recipe: how.
        checkpoint: file for the training's state.
        on_checkpoint: called in the first process after each checkpoint, with the averaged model and seconds so far.
        seed: of batches, prompts and noise.
    """
    state = _State(model, recipe, checkpoint)
    average, budget = cast("Module", state.average.module), state.budget
    rank, world_size = place()
    torch.manual_seed(1_000_003 * rank + seed + state.step)
    rng = np.random.default_rng([seed, state.step, rank])
    began_at, saved, running = state.step, budget.spent, 0.0
    progress = sum_over_processes(torch.tensor(budget.progress)).item() / world_size  # one view of where they are
    while progress < 1:
        set_learning_rate(state.optimizer, learning_rate(recipe.peak_learning_rate, progress))
        loss = loss_of(rng, progress)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        progress = average_gradients(model, budget.progress)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        state.optimizer.step()
        state.average.update(model)
        state.step += 1
        running += (loss.item() - running) / min(state.step - began_at, 200)
        if rank == 0 and state.step % 100 == 0:
            rate = state.step * recipe.batch_size * world_size / budget.spent
            _logger.info("step %d, %.0f s, %.0f images/s: loss %.4f", state.step, budget.spent, rate, running)
        if rank == 0 and budget.spent - saved > CHECKPOINT_SECONDS:
            saved = budget.spent
            state.save()
            if on_checkpoint:
                on_checkpoint(average, saved)
    if state.step > began_at:
        state.save()  # a second start finds it finished
        images = state.step * recipe.batch_size * world_size
        _logger.info("trained %d steps, %d images, %.0f s: loss %.4f", state.step, images, budget.spent, running)
    return average
