"""What the training scripts share: a budget in minutes, its learning rate, averaged weights, resume.

A budget in minutes keeps the scripts useful on any machine; each log and checkpoint has the steps that it bought.
"""

import copy
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

_logger = logging.getLogger(__name__)


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
