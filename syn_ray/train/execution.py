"""How a training run is carried out; what it computes stands in its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from syn_ray.train.checkpoint import CheckpointFile


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is; the loss is the mean of the last steps."""

    step: int
    train_steps: int
    loss: float
    learning_rate: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class Execution:
    """Nothing here changes a result beyond float rounding."""

    checkpoints: CheckpointFile
    """Where the run is continued from, and saved by the first worker."""
    device: torch.device | str = "cpu"
    """Of this worker."""
    on_progress: Callable[[Progress], None] | None = None
    """Called every `loop.REPORT_STEPS` steps; what it raises ends the run."""
    checkpoint_seconds: float = 60.0
    """Least time between two checkpoints; 0 saves at every report."""
    loader_workers: int = 0
    """Processes that decode and augment; 0 does it in this one."""
    cache_bytes: int = 512 * 2**20
    """Decoded images are kept in memory when all of them fit."""
    gradient_checkpointing: bool = False
    """CLIP's activations are computed again instead of kept."""
