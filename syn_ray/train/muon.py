"""Muon: matrices move along their orthogonalised momentum, everything else by AdamW.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the length of the step is Liu et al. 2025
(arXiv:2502.16982), so that matrices and the rest share one learning rate and one weight decay.

torch's and timm's own orthogonalise in bfloat16 alone; on a CPU that knows no bfloat16 it costs more than the rest of a
small ViT's step. Here it is float32 there, and all matrices of one shape go through it together.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

MOMENTUM = 0.95
_ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.AdamW):
    """AdamW, except for parameter groups with `orthogonalize` set: all of theirs are matrices or convolutions."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; the gradients of the matrices are used up by it."""
        for group in self.param_groups:
            if group.get("orthogonalize"):
                self._move_matrices(group)
        return super().step(closure)  # which passes over parameters without a gradient

    def _move_matrices(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                alike[len(parameter), parameter[0].numel()].append(parameter)
        for (rows, columns), parameters in alike.items():
            directions = orthogonalize(torch.stack([self._momentum(parameter) for parameter in parameters]))
            length = group["lr"] * 0.2 * max(rows, columns) ** 0.5
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(direction.view(parameter.shape), alpha=length)
                parameter.grad = None

    def _momentum(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """Nesterov's momentum with this step's gradient, as a matrix."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:  # by AdamW's names: it looks for `step` in every state that it loads
            state.update(step=torch.zeros(()), exp_avg=torch.zeros_like(parameter))
        state["step"] += 1
        average = state["exp_avg"].lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(average, MOMENTUM).flatten(1)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices whose singular values are all about 1 (between 0.7 and 1.2), by Newton-Schulz iteration.

    Args:
        matrices: [matrices, rows, columns].
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide.bfloat16() if matrices.is_cuda else wide.contiguous()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    first, third, fifth = _QUINTIC
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=third, alpha=fifth), x, beta=first)
    return (x if wide is matrices else x.mT).to(matrices.dtype)
