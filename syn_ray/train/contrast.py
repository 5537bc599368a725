"""The contrastive objective: which caption belongs to which image, over the whole global batch."""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import TYPE_CHECKING

import open_clip
import torch
from open_clip.loss import SigLipLoss
from torch.nn.parallel import DistributedDataParallel

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.shards.decode import normalize
from syn_ray.train.clip_model import create_clip, create_clip_optimizer
from syn_ray.train.image_text import PairBatch
from syn_ray.train.loop import Objective, in_parallel, rank_and_workers

if TYPE_CHECKING:
    from syn_ray.train.clip_config import ClipConfig

# open_clip 3.3 gathers with a function that torch 2.15 deprecates; nobody but open_clip can mend it.
warnings.filterwarnings("ignore", "torch.distributed.nn.functional.all_gather", FutureWarning, "open_clip")

LARGEST_LOGIT_SCALE = 100.0
"""Source: Radford et al. 2021, section 2.5; the authors' released models end there."""


class Contrast(Objective[PairBatch]):
    """open_clip's model and its CLIP or SigLIP loss.

    With micro batches the features of all pairs are computed first, without the means to differentiate; the loss gives
    the gradient of each feature; then each micro batch goes through the model again and takes its features' gradients
    on to the weights. Features are compared and gathered from the workers once, and the logit scale gets its gradient
    once: in open_clip's `accum_freq` it gets it once for each micro batch.

    Source: Gao et al. 2021, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (GradCache).
    """

    def __init__(self, config: ClipConfig, seed: int, device: torch.device, *, gradient_checkpointing: bool) -> None:
        self._config = config
        self._device = device
        model = create_clip(config, seed).to(device)
        if gradient_checkpointing:
            model.set_grad_checkpointing()  # type: ignore[operator]  # open_clip's models have it, nn.Module does not
        if config.micro_batch_size and any(name.endswith("running_mean") for name in model.state_dict()):
            raise UserError(
                f"micro_batch_size {config.micro_batch_size}: model '{config.model}' has batch norms, whose statistics "
                "would be those of a micro batch; leave micro_batch_size out"
            )
        self.model = model
        self.optimizer = create_clip_optimizer(model, config.optimizer)
        self._parallel = in_parallel(model, device)
        rank, world_size = rank_and_workers()
        self._loss: torch.nn.Module
        if config.loss == "siglip":
            self._loss = SigLipLoss(rank=rank, world_size=world_size)
        else:
            self._loss = open_clip.ClipLoss(
                local_loss=True, gather_with_grad=True, cache_labels=True, rank=rank, world_size=world_size
            )

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with."""
        return math.exp(self.model.get_parameter("logit_scale").item())

    def backward(self, batch: PairBatch, seed: int) -> torch.Tensor:
        images = batch.images.to(self._device, non_blocking=True)
        tokens = batch.tokens.to(self._device, non_blocking=True).long()
        size = self._config.micro_batch_size or len(images)
        parts = list(zip(torch.split(images, size), torch.split(tokens, size), strict=True))
        if len(parts) > 1:
            return self._backward_in_parts(parts, seed)
        loss: torch.Tensor = self._loss(*self._outputs(self._parallel, *parts[0]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        return loss

    def after_step(self) -> None:
        with torch.no_grad():
            self.model.get_parameter("logit_scale").clamp_(0, math.log(LARGEST_LOGIT_SCALE))

    def _backward_in_parts(self, parts: list[tuple[torch.Tensor, torch.Tensor]], seed: int) -> torch.Tensor:
        with torch.no_grad():
            outputs = [self._part(self.model, part, seed, number) for number, part in enumerate(parts)]
        features = [torch.cat(column) for column in list(zip(*outputs, strict=True))[:2]]
        leaves = [value.detach().requires_grad_() for value in (*features, *outputs[0][2:])]
        loss: torch.Tensor = self._loss(*leaves)
        gradients = torch.autograd.grad(loss, leaves)
        shares = [torch.split(gradient, len(parts[0][0])) for gradient in gradients[:2]]
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            # The logit scale and the bias belong to no pair: they get their gradients with the last part.
            rest = [gradient if last else torch.zeros_like(gradient) for gradient in gradients[2:]]
            with contextlib.nullcontext() if last else self._apart():
                given = [*(share[number] for share in shares), *rest]
                torch.autograd.backward(self._part(self._parallel, part, seed, number), given)
        return loss

    def _apart(self) -> contextlib.AbstractContextManager[None]:
        """While gradients are only added up, workers do not average them."""
        if isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return contextlib.nullcontext()

    def _part(
        self, model: torch.nn.Module, part: tuple[torch.Tensor, torch.Tensor], seed: int, number: int
    ) -> list[torch.Tensor]:
        torch.manual_seed(derive_seed(seed, "part", number))  # both passes drop the same
        return self._outputs(model, *part)

    def _outputs(self, model: torch.nn.Module, images: torch.Tensor, tokens: torch.Tensor) -> list[torch.Tensor]:
        """Features of images and texts [pairs, embed_dim], each of length 1; logit scale; bias where there is one."""
        pixels = normalize(images, self._config.mean, self._config.std)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.precision == "bfloat16"):
            outputs = model(pixels, tokens)
        return [output.float() for output in outputs]
