"""Trains the denoiser and the text encoder of the embedded Stable Diffusion together, on cached latents.

The network predicts v (Salimans & Ho 2022, appendix D) on a cosine noise schedule; each batch's timesteps are spread
evenly over the schedule, and high signal-to-noise ratios weigh less (min-SNR, Hang et al. 2023, section 3.4, gamma 5).
Run by `stable_diffusion.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTokenizer

from syn_ray.embedded.make.loop import Recipe, train
from syn_ray.embedded.make.text import EMBEDDING_SIZE, PromptBook

BATCH_SIZE = 48  # of one process; two processes of one thread each do nearly twice the work of one with two threads
MIN_SNR_GAMMA = 5.0


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
) -> TextToNoise:
    """The averaged model after so many minutes; goes on from the checkpoint where there is one.

    Args:
        model: trained in place; its average is what is returned.
        latents: what to learn.
        tokenizer: of the text encoder.
        minutes: the budget, restarts included.
        checkpoint: file for the training's state.
        on_checkpoint: called with the averaged model and the seconds trained, after each checkpoint.
    """
    book = PromptBook()
    tokens = tokenizer(book.prompts, padding="max_length", return_tensors="pt").input_ids
    alphas_cumprod = build_scheduler().alphas_cumprod

    def loss_of(rng: np.random.Generator, _: float) -> Tensor:
        chosen = rng.integers(0, len(latents.labels), BATCH_SIZE)
        prompts = book.draw(latents.labels[chosen], latents.attributes[chosen], rng)
        return v_loss(model, latents.draw(chosen), tokens[prompts], alphas_cumprod)

    return train(model, loss_of, Recipe(minutes, BATCH_SIZE), checkpoint, on_checkpoint)
