"""Grey models for three colour channels: trained on one channel, widened by algebra when they are saved.

The widened model sees the mean of three channels and answers with three equal ones. For an image that is the same
function; for noise drawn per channel it is not: the mean of three independent channels has a standard deviation
smaller by the square root of three, so a model that will see noise is trained with that much of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

COLOURS = 3
NOISE_OF_MEAN: float = COLOURS**-0.5
"""Standard deviation of the mean of three independent standard normal channels."""


def spread_input(weight: Tensor) -> Tensor:
    """A first convolution's weight [out, n, k, k] for n grey pictures as [out, 3n, k, k] for n coloured ones."""
    return weight.repeat_interleave(COLOURS, dim=1) / COLOURS


def repeat_output(values: Tensor) -> Tensor:
    """A last convolution's weight or bias for one grey picture, repeated for three equal channels."""
    return values.repeat_interleave(COLOURS, dim=0)


def widen_ends(weights: dict[str, Tensor], first: str, last: str) -> dict[str, Tensor]:
    """All weights of a grey model, its first and last convolution (by name) widened to three channels."""
    widened = dict(weights)
    widened[f"{first}.weight"] = spread_input(weights[f"{first}.weight"])
    for name in (f"{last}.weight", f"{last}.bias"):
        widened[name] = repeat_output(weights[name])
    return widened


def widen_autoencoder(narrow: Any, wide: Any) -> Any:
    """Fills a three-channel autoencoder of diffusers' (latent or vector-quantised) from the same one for grey."""
    wide.load_state_dict(widen_ends(narrow.state_dict(), "encoder.conv_in", "decoder.conv_out"))
    return wide.eval()


def widen_denoiser(narrow: Any, wide: Any) -> Any:
    """Fills a three-channel denoiser from the same one for grey.

    DeepFloyd IF's denoisers answer with twice the channels, the second half a variance; its pipelines cut that half off
    unless the sampler uses it, and here it is zero.
    """
    weights = widen_ends(narrow.state_dict(), "conv_in", "conv_out")
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name])])
    wide.load_state_dict(weights)
    return wide.eval()
