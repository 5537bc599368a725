"""One step of masked-token sampling: draw every unknown token, keep the confident ones, mask the rest again.

Source: Chang et al., "MaskGIT", CVPR 2022, section 3.2, as diffusers' AmusedScheduler has it; here the noise is an
argument, so that each image of a batch can bring its own.
"""

from __future__ import annotations

import dataclasses
import math

import torch

_LEAST = 1e-20
"""Below it a probability counts as this much: logarithms stay finite."""


@dataclasses.dataclass(frozen=True)
class StepNoise:
    """What one step of a batch draws."""

    exponential: torch.Tensor
    """Exponential(1), [batch, tokens, codes]: the largest of probability over it is a draw from the probabilities."""
    uniform: torch.Tensor
    """Uniform on [0, 1), [batch, tokens]: for the confidence's Gumbel noise. Not used in the last step."""


def draw_noise(rngs: list[torch.Generator], tokens: int, codes: int) -> StepNoise:
    """Noise of a step, each image's from its own rng and of its own shape: no image depends on its batch."""
    device = rngs[0].device
    exponential = [torch.empty(tokens, codes, device=device).exponential_(generator=rng) for rng in rngs]
    uniform = [torch.rand(tokens, device=device, generator=rng) for rng in rngs]
    return StepNoise(torch.stack(exponential), torch.stack(uniform))


def within_nucleus(guided: torch.Tensor, conditional: torch.Tensor, top_p: float) -> torch.Tensor:
    """Guided logits without the codes that are unlikely by the conditional ones.

    Args:
        guided: [batch, tokens, codes].
        conditional: as `guided`, before guidance.
        top_p: the likeliest codes whose probabilities reach this share are kept; 1 keeps all.

    Returns:
        `guided`, and -inf for the codes that are left out; the likeliest code is always kept.
    """
    if top_p == 1:
        return guided
    probabilities, codes = conditional.double().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    likelier = probabilities.cumsum(dim=-1) - probabilities
    left_out = torch.empty_like(likelier, dtype=torch.bool).scatter_(-1, codes, likelier >= top_p)
    return guided.masked_fill(left_out, float("-inf"))


def unmask(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    noise: StepNoise,
    *,
    step: int,
    temperatures: torch.Tensor,
    mask_token: int,
    schedule: str,
) -> torch.Tensor:
    """The tokens after one step.

    Args:
        logits: [batch, tokens, codes].
        tokens: int64 [batch, tokens]; `mask_token` where unknown.
        noise: of this step.
        step: from 0; at the last one every token is known.
        temperatures: of the confidence's noise, one for each step.
        mask_token: the number that stands for an unknown token.
        schedule: how the masked share falls, `cosine` or `linear`.
    """
    unknown = tokens == mask_token
    probabilities = logits.float().softmax(dim=-1)
    drawn = (probabilities / noise.exponential).argmax(dim=-1)
    drawn = torch.where(unknown, drawn, tokens)
    if step == len(temperatures) - 1:
        return drawn
    confidence = probabilities.gather(-1, drawn[..., None])[..., 0]
    confidence = torch.where(unknown, confidence, torch.finfo(confidence.dtype).max)  # what is known stays
    gumbel = -torch.log((-torch.log(noise.uniform.clamp(_LEAST))).clamp(_LEAST))
    noisy = torch.log(confidence.clamp(_LEAST)) + temperatures[step] * gumbel
    masked = _masked_tokens(unknown, step, len(temperatures), schedule)
    threshold = noisy.sort(dim=-1).values.gather(1, masked)
    return torch.where(noisy < threshold, mask_token, drawn)


def _masked_tokens(unknown: torch.Tensor, step: int, steps: int, schedule: str) -> torch.Tensor:
    """How many tokens of each image are masked again, int64 [batch, 1]: fewer than before, and one at least."""
    ratio = torch.tensor([[step + 1]], device=unknown.device) / steps
    share = torch.cos(ratio * math.pi / 2) if schedule == "cosine" else 1 - ratio
    wanted = (unknown.shape[1] * share).floor()
    return torch.minimum(unknown.sum(dim=-1, keepdim=True) - 1, wanted).clamp(min=1).long()
