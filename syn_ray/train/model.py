"""What is trained, and what trains it: a timm model, its optimizer, and the moving average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import timm
import torch
from torch.optim.swa_utils import AveragedModel

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.train.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Callable

    from syn_ray.train.config import ClassifyConfig, OptimizerConfig


def create_model(config: ClassifyConfig, num_classes: int, seed: int) -> torch.nn.Module:
    """The untrained timm model; its weights follow from the seed.

    Raises:
        UserError: it does not take `model_kwargs`, or takes images of another size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        try:
            model: torch.nn.Module = timm.create_model(
                config.model, num_classes=num_classes, drop_path_rate=config.drop_path, **config.model_kwargs
            )
        except TypeError as error:
            raise UserError(f"model '{config.model}' does not take its model_kwargs: {error}") from None
    expected = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if expected is not None and tuple(expected) != (config.image_px, config.image_px):
        raise UserError(
            f"model '{config.model}' takes images of {expected[0]} px and image_px is {config.image_px}; "
            f"add img_size: {config.image_px} to model_kwargs"
        )
    return model


def create_optimizer(model: torch.nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW or Muon, with decay on matrices only."""
    named: Callable[[], set[str]] = getattr(model, "no_weight_decay", set)  # timm: position embeddings and tokens
    exempt = named()
    matrices, rest = decay_groups(model, config.weight_decay, lambda name: name in exempt)
    if config.name == "adamw":
        return torch.optim.AdamW([matrices, rest], lr=config.learning_rate, betas=config.betas, fused=True)
    groups = [matrices | {"orthogonalize": True}, rest]
    return Muon(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def decay_groups(model: torch.nn.Module, weight_decay: float, is_spared: Callable[[str], bool]) -> list[dict[str, Any]]:
    """The parameters in two groups, with weight decay and without: vectors, single numbers and those spared by name."""
    decayed: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim <= 1 or is_spared(name) else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def moving_average(model: torch.nn.Module, decay: float) -> AveragedModel:
    """An average of the weights; its decay grows to the value given, so that short runs forget their random start."""

    def average(averaged: Any, current: Any, number: Any) -> None:
        grown = min(decay, (1 + float(number)) / (10 + float(number)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - grown)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=False)
