"""The two stages of the embedded cascade: 16 px from text, then 32 px from 16 px, in DeepFloyd IF's blocks.

Both are trained on one grey channel and widened when saved (`grey.py`). That is exact because they predict the clean
image: whatever noise the pipeline draws in three channels, the last step of the sampler returns the prediction itself,
three times the same. A denoiser that predicts noise or v would have to undo each channel's own noise.
Predictions of the clean image weigh as SNR + 1, which is the plain error of v (Salimans & Ho 2022, section 4), with the
ratio cut off (min-SNR, Hang et al. 2023, section 3.4): below that noise little is left to learn.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from syn_ray.embedded.make.grey import COLOURS, NOISE_OF_MEAN
from syn_ray.embedded.make.idx import IMAGE_SIZE_PX
from syn_ray.embedded.make.t5 import EMBEDDING_SIZE

BASE_SIZE_PX = 16
LARGEST_RATIO = 10.0
NOISE_LEVELS = 400
"""The second stage learns to mistrust its input by noise levels from 0 to this one, of 1000; the pipeline adds 250 by
default.
"""


def _build(size_px: int, pictures: int, colours: int, widths: tuple[int, ...], **options: Any) -> Any:
    """A denoiser with attention, to itself and the text, at its coarsest level only: there it is cheap."""
    fine = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=size_px,
        in_channels=pictures * colours,
        out_channels=1 if colours == 1 else 2 * colours,  # the pipelines expect a variance, and cut it off
        layers_per_block=1,
        block_out_channels=widths,
        down_block_types=(*("ResnetDownsampleBlock2D",) * fine, "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", *("ResnetUpsampleBlock2D",) * fine),
        cross_attention_dim=EMBEDDING_SIZE,
        encoder_hid_dim=EMBEDDING_SIZE,
        attention_head_dim=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=8,
        **options,
    )


def build_base(colours: int) -> Any:
    """An untrained first stage: 16 px from noise and text."""
    return _build(BASE_SIZE_PX, 1, colours, (32, 64, 80))


def build_upscaler(colours: int) -> Any:
    """An untrained second stage: 32 px from noise, text and an enlarged picture with noise of a given level."""
    return _build(IMAGE_SIZE_PX, 2, colours, (16, 32, 32), class_embed_type="timestep")


def build_scheduler() -> Any:
    """The noise schedule, and a sampler that begins at pure noise and ends with the prediction itself.

    Thresholding at 1 cuts every prediction to the range of pixels, as Imagen's static thresholding: black stays black
    at high guidance. `variance_type` is an entry that the pipelines ask for.
    """
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        thresholding=True,
        sample_max_value=1.0,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        variance_type=None,
    )


def build_noising_scheduler() -> Any:
    """The schedule of the noise that the second stage's input gets."""
    return DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")


class TextToSmall(nn.Module):
    """The first stage and its text encoder as one module, so that they share optimizer, average and checkpoint."""

    def __init__(self, denoiser: Any, text_encoder: Any) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The predicted images [n, 1, 16, 16] for noisy ones, timesteps [n], and prompts' tokens and mask [n, 77]."""
        states = self.text_encoder(tokens, attention_mask=mask)[0]
        predicted: Tensor = self.denoiser(noisy, timesteps, states, return_dict=False)[0]
        return predicted


def shrink(images: Tensor) -> Tensor:
    """Images [n, c, 32, 32] at 16 px."""
    return functional.avg_pool2d(images, IMAGE_SIZE_PX // BASE_SIZE_PX)


def enlarge(images: Tensor) -> Tensor:
    """Images at 16 px enlarged to 32 px, as IFSuperResolutionPipeline does it."""
    return functional.interpolate(images, (IMAGE_SIZE_PX, IMAGE_SIZE_PX), mode="bilinear", align_corners=True)


def add_noise(clean: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Grey images with the noise that is left in the mean of three channels."""
    signal = alphas_cumprod[timesteps][:, None, None, None]
    return signal.sqrt() * clean + (1 - signal).sqrt() * NOISE_OF_MEAN * torch.randn_like(clean)


def weigh(timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The weight [n] of a squared error of the clean image at each timestep."""
    signal = alphas_cumprod[timesteps]
    ratio = COLOURS * signal / (1 - signal)  # signal to noise of the mean of three channels
    weight: Tensor = ratio.clamp(max=LARGEST_RATIO) + 1
    return weight


def spread_timesteps(count: int, total: int) -> Tensor:
    """One timestep for each image of a batch, spread evenly over all."""
    return ((torch.arange(count) + torch.rand(1)) / count * total).long()


def image_loss(predicted: Tensor, clean: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The weighted squared error of predicted images."""
    weight = weigh(timesteps, alphas_cumprod)
    return (weight * (predicted - clean).square().mean(dim=(1, 2, 3))).sum() / weight.sum()
