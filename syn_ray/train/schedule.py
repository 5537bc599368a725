"""Numbers of steps from dataset sizes, and learning rates from steps: pure functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from syn_ray.core.errors import UserError

if TYPE_CHECKING:
    from syn_ray.train.clip_config import ClipConfig
    from syn_ray.train.config import StepsConfig


def train_steps(config: StepsConfig, dataset_size: int) -> int:
    """Optimizer steps for a dataset of this size, linear in its logarithm.

    Raises:
        UserError: the line is below one step there.
    """
    doublings = math.log2(dataset_size / config.reference_size)
    steps = round(config.factor * (config.base_steps + config.steps_per_doubling * doublings))
    if steps < 1:
        raise UserError(
            f"steps: {steps} for a dataset of {dataset_size} images; raise base_steps ({config.base_steps:g} at "
            f"{config.reference_size:g} images) or factor ({config.factor:g})"
        )
    return steps


def clip_batch_size(config: ClipConfig, dataset_size: int) -> int:
    """Pairs in one step: as configured, or the whole dataset where it is smaller.

    Raises:
        UserError: fewer than two, and a pair has nothing to be told from.
    """
    batch_size = min(config.batch_size, dataset_size)
    if batch_size < 2:
        raise UserError(
            f"a batch of {batch_size} pair (batch_size {config.batch_size}, dataset of {dataset_size}) has nothing to "
            "tell apart; give 2 or more of each"
        )
    return batch_size


def clip_train_steps(config: ClipConfig, dataset_size: int) -> int:
    """Optimizer steps: the configured epochs, the last batch filled up from one more."""
    return -(-config.epochs * dataset_size // clip_batch_size(config, dataset_size))


def clip_warmup_fraction(config: ClipConfig, train_steps: int) -> float:
    """Share of the steps in which the learning rate rises: `warmup_steps`, at most `warmup_fraction` of the run."""
    return min(config.optimizer.warmup_fraction, config.optimizer.warmup_steps / train_steps)


def learning_rate_factor(step: int, total_steps: int, warmup_fraction: float) -> float:
    """The share of the peak learning rate at a step (counted from 0): a linear rise, then half a cosine to zero."""
    warmup_steps = round(warmup_fraction * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
