"""Stochastic depth that drops the same paths of the same samples, however many workers share a batch."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import DropPath


class GlobalDropPath(DropPath):  # type: ignore[misc]  # timm is read as Any
    """timm's drop path, drawn for the global batch and cut to this worker's share of it.

    It takes for granted that each worker's rng stands at the same place, that all shares are equally large, and that
    worker r has the r-th of them.
    """

    def __init__(self, drop_prob: float, scale_by_keep: bool, rank: int, world_size: int) -> None:
        super().__init__(drop_prob, scale_by_keep)
        self._rank = rank
        self._world_size = world_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.drop_prob or not self.training:
            return x
        share, keep = len(x), 1 - self.drop_prob
        mask = x.new_empty((share * self._world_size, *(1,) * (x.ndim - 1))).bernoulli_(keep)
        if keep > 0 and self.scale_by_keep:
            mask.div_(keep)
        return x * mask[self._rank * share : (self._rank + 1) * share]


def share_drop_path(model: torch.nn.Module, rank: int, world_size: int) -> None:
    """Puts `GlobalDropPath` in the place of each drop path of a model."""
    for parent in list(model.modules()):
        drops: list[tuple[str, Any]] = [(name, c) for name, c in parent.named_children() if type(c) is DropPath]
        for name, drop in drops:
            setattr(parent, name, GlobalDropPath(drop.drop_prob, drop.scale_by_keep, rank, world_size))
