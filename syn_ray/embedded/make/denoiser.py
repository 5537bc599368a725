"""Trains the denoiser and the text encoder of the embedded Stable Diffusion together, on cached latents.

The network predicts v (Salimans & Ho 2022, appendix D) on a cosine noise schedule; each batch's timesteps are spread
evenly over the schedule, and high signal-to-noise ratios weigh less (min-SNR, Hang et al. 2023, section 3.4, gamma 5).
Run by `stable_diffusion.py`.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTokenizer

from syn_ray.embedded.make.loop import (
    Average,
    Budget,
    average_gradients,
    learning_rate,
    place,
    save_checkpoint,
    set_learning_rate,
)
from syn_ray.embedded.make.text import EMBEDDING_SIZE, PromptBook

_logger = logging.getLogger(__name__)

BATCH_SIZE = 48  # of one process; two processes of one thread each do nearly twice the work of one with two threads
PEAK_LEARNING_RATE = 1e-3
MIN_SNR_GAMMA = 5.0
AVERAGE_DECAY = 0.999
CHECKPOINT_SECONDS = 150.0


def build_denoiser() -> Any:
    """An untrained denoiser for latents [4, 8, 8]."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=EMBEDDING_SIZE,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """The noise schedule, and a sampler that begins at pure noise."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


class TextToNoise(nn.Module):
    """Denoiser and text encoder as one module, so that they share optimizer, average and checkpoint."""

    def __init__(self, denoiser: Any, text_encoder: Any) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """The predicted v [n, 4, 8, 8] for noisy latents, their timesteps [n] and prompts' tokens [n, MAX_TOKENS]."""
        text = self.text_encoder(tokens)[0]
        predicted: Tensor = self.denoiser(noisy, timesteps, text, return_dict=False)[0]
        return predicted


class Latents:
    """The training set: each image's latent distribution, label and caption attributes."""

    def __init__(
        self, mean: Tensor, std: Tensor, scaling_factor: float, labels: NDArray[np.int64], attributes: NDArray[np.int64]
    ) -> None:
        self.mean, self.std, self.scaling_factor = mean, std, scaling_factor
        self.labels, self.attributes = labels, attributes

    def draw(self, chosen: NDArray[np.int64]) -> Tensor:
        """A sample of each chosen image's latents, scaled to unit variance."""
        rows = torch.from_numpy(chosen)
        return (self.mean[rows] + self.std[rows] * torch.randn_like(self.mean[rows])) * self.scaling_factor


def v_loss(model: nn.Module, clean: Tensor, tokens: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The weighted error of the predicted v at one timestep per latent."""
    count = len(clean)
    timesteps = ((torch.arange(count) + torch.rand(1)) / count * len(alphas_cumprod)).long()
    signal = alphas_cumprod[timesteps][:, None, None, None]
    noise = torch.randn_like(clean)
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    target = signal.sqrt() * noise - (1 - signal).sqrt() * clean
    ratio = signal / (1 - signal)
    weight = ratio.clamp(max=MIN_SNR_GAMMA) / (ratio + 1) + 0.05  # a little everywhere: pure noise must be answered too
    error = (model(noisy, timesteps, tokens).float() - target).square()
    loss: Tensor = (weight * error).mean() / weight.mean()
    return loss


def train_denoiser(
    model: TextToNoise,
    latents: Latents,
    tokenizer: CLIPTokenizer,
    minutes: float,
    checkpoint: Path,
    on_checkpoint: Callable[[TextToNoise, float], None],
    seed: int = 0,
) -> TextToNoise:
    """The averaged model after so many minutes; goes on from the checkpoint where there is one.

    Args:
        model: trained in place; its average is what is returned.
        latents: what to learn.
        tokenizer: of the text encoder.
        minutes: the budget, restarts included.
        checkpoint: file for the training's state.
        seed: of batches, prompts and noise.
        on_checkpoint: called with the averaged model and the seconds trained, after each checkpoint.
    """
    book = PromptBook()
    tokens = tokenizer(book.prompts, padding="max_length", return_tensors="pt").input_ids
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    average, budget, step = Average(model, AVERAGE_DECAY), Budget(minutes), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        average.steps = step = state["step"]
        budget.spent_before = state["spent"]
    averaged = cast("TextToNoise", average.module)
    rank, world_size = place()
    torch.manual_seed(1_000_003 * rank + seed + step)
    rng = np.random.default_rng([seed, step, rank])
    alphas_cumprod = build_scheduler().alphas_cumprod
    saved, running, progress = budget.spent, 0.0, budget.progress
    while progress < 1:
        set_learning_rate(optimizer, learning_rate(PEAK_LEARNING_RATE, progress))
        chosen = rng.integers(0, len(latents.labels), BATCH_SIZE)
        prompts = book.draw(latents.labels[chosen], latents.attributes[chosen], rng)
        loss = v_loss(model, latents.draw(chosen), tokens[prompts], alphas_cumprod)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        progress = average_gradients(model, budget.progress)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        step += 1
        running += (loss.item() - running) / min(step, 200)
        if rank == 0 and step % 100 == 0:
            rate = step * BATCH_SIZE * world_size / budget.spent
            _logger.info("step %d, %.0f s, %.0f images/s: loss %.4f", step, budget.spent, rate, running)
        if rank == 0 and budget.spent - saved > CHECKPOINT_SECONDS:
            saved = budget.spent
            parts = {
                "model": model.state_dict(),
                "average": average.module.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            save_checkpoint(checkpoint, {**parts, "step": step, "spent": budget.spent})
            on_checkpoint(averaged, budget.spent)
    _logger.info("trained %d steps, %d images, %.0f s", step, step * BATCH_SIZE * world_size, budget.spent)
    return averaged
