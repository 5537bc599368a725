"""Trains the image tokenizer of the embedded Muse: a 32x32 grey image to 8x8 tokens out of 256, and back.

The codebook is no parameter: each code is the moving average of the latents that chose it (van den Oord et al. 2017,
appendix A.1). The first tenth of the training has no codebook; then k-means makes one, and codes that nothing chooses
are put where the error is. `muse.py` runs this.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import VQModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from syn_ray.embedded.make.autoencoder import picture_loss, to_tensor
from syn_ray.embedded.make.idx import IMAGE_SIZE_PX
from syn_ray.embedded.make.loop import Recipe, same_in_all_processes, sum_over_processes, train

_logger = logging.getLogger(__name__)

CODES = 256
CODE_SIZE = 8
TOKENS_PER_SIDE = 8
BATCH_SIZE = 32  # of one process
PEAK_LEARNING_RATE = 2e-3
COMMITMENT_WEIGHT = 0.25
CODEBOOK_DECAY = 0.98
FREE_UNTIL = 0.1  # of the training: no codebook yet
REVIVE_UNTIL = 0.8  # of the training: then the codebook only settles
DEAD_SHARE = 0.03  # of the mean use
_KMEANS_IMAGES, _KMEANS_ROUNDS = 512, 12


def build_vq(colours: int) -> Any:
    """An untrained tokenizer for images from 0 to 1; AmusedPipeline wants codes of the latents' size."""
    return VQModel(
        in_channels=colours,
        out_channels=colours,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=CODE_SIZE,
        vq_embed_dim=CODE_SIZE,
        num_vq_embeddings=CODES,
        norm_num_groups=8,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        sample_size=IMAGE_SIZE_PX,
    )


def to_unit(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, 32, 32] as float [n, 1, 32, 32] from 0 to 1."""
    return to_tensor(images).add_(1).div_(2)


def nearest_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """The number [n] of the code nearest to each latent [n, d]."""
    return (codebook.square().sum(dim=1) - 2 * latents @ codebook.T).argmin(dim=1)


def worst_latents(latents: Tensor, codebook: Tensor, codes: Tensor, count: int) -> Tensor:
    """So many latents, drawn with probability in proportion to the squared distance to their code."""
    error = (latents - codebook[codes]).square().sum(dim=1)
    return latents[torch.multinomial(error + 1e-12, count)]


def count_and_sum(latents: Tensor, codes: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """How many latents chose each code [k], and their sum [k, d]."""
    counts = torch.bincount(codes, minlength=total).to(latents.dtype)
    return counts, torch.zeros(total, latents.shape[1], dtype=latents.dtype).index_add_(0, codes, latents)


def kmeans(latents: Tensor, total: int, rounds: int) -> Tensor:
    """So many centres [k, d]; centres that nothing chooses move to the worst served latents."""
    centres = latents[torch.randperm(len(latents))[:total]].clone()
    for _ in range(rounds):
        codes = nearest_codes(latents, centres)
        counts, sums = count_and_sum(latents, codes, total)
        empty = counts == 0
        spare = worst_latents(latents, centres, codes, int(empty.sum())) if empty.any() else centres[empty]
        centres = sums / counts.clamp(min=1)[:, None]
        centres[empty] = spare
    return centres


class ImageTokenizer(nn.Module):
    """The model, and the moving averages behind its codebook."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.model.quantize.requires_grad_(requires_grad=False)
        self.counts: Tensor
        self.sums: Tensor
        self.ready: Tensor
        self.register_buffer("counts", torch.ones(CODES))
        self.register_buffer("sums", torch.zeros(CODES, CODE_SIZE))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))

    @property
    def codebook(self) -> Tensor:
        """Codes [256, 8]."""
        weight: Tensor = self.model.quantize.embedding.weight
        return weight

    def latents(self, images: Tensor) -> Tensor:
        """Latents [n, 8, 8, 8], codes last, in float32."""
        encoded: Tensor = self.model.encode(images).latents
        return encoded.float().permute(0, 2, 3, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Images [n, 1, 32, 32] of latents or codes [n, 8, 8, 8]."""
        decoded: Tensor = self.model.decoder(self.model.post_quant_conv(latents.permute(0, 3, 1, 2)))
        return decoded.float()

    @torch.no_grad()
    def begin(self, latents: Tensor) -> None:
        """Makes the codebook out of many latents [n, 8]."""
        self.sums.copy_(same_in_all_processes(kmeans(latents, CODES, _KMEANS_ROUNDS)))
        self.counts.fill_(1.0)
        self.codebook.copy_(self.sums)
        self.ready.fill_(value=True)

    @torch.no_grad()
    def follow(self, latents: Tensor, codes: Tensor, revive: bool) -> None:
        """Moves each code towards the latents [n, 8] that chose it in this step, in all processes alike."""
        counts, sums = count_and_sum(latents, codes, CODES)
        together = sum_over_processes(torch.cat([counts[:, None], sums], dim=1))
        self.counts.lerp_(together[:, 0], 1 - CODEBOOK_DECAY)
        self.sums.lerp_(together[:, 1:], 1 - CODEBOOK_DECAY)
        usual = self.counts.mean()
        dead = self.counts < DEAD_SHARE * usual
        if revive and dead.any():
            fresh = same_in_all_processes(worst_latents(latents, self.codebook, codes, int(dead.sum())))
            self.counts[dead], self.sums[dead] = usual, usual * fresh
        self.codebook.copy_(self.sums / self.counts.clamp(min=1e-6)[:, None])


def tokenizer_loss(tokenizer: ImageTokenizer, images: Tensor, progress: float) -> Tensor:
    """The error of decoded images and, once there is a codebook, how far latents are from their codes."""
    with torch.autocast("cpu", torch.bfloat16):  # half as fast again as float32 on a processor with bf16
        latents = tokenizer.latents(images)
    given, away = latents, 1e-3 * latents.square().mean()  # keeps their scale near 1 while nothing else does
    if tokenizer.ready:
        flat = latents.detach().reshape(-1, CODE_SIZE)
        codes = nearest_codes(flat, tokenizer.codebook)
        chosen = tokenizer.codebook[codes].view_as(latents)
        tokenizer.follow(flat, codes, revive=progress < REVIVE_UNTIL)
        given, away = latents + (chosen - latents).detach(), COMMITMENT_WEIGHT * functional.mse_loss(latents, chosen)
    with torch.autocast("cpu", torch.bfloat16):
        decoded = tokenizer.decode(given)
    return picture_loss(2 * (decoded - images)) + away


def train_tokenizer(images: NDArray[np.uint8], minutes: float, checkpoint: Path) -> ImageTokenizer:
    """The one-channel tokenizer after so many minutes; goes on from the checkpoint where there is one."""
    torch.manual_seed(0)  # the same beginning in all processes
    tokenizer = ImageTokenizer(build_vq(colours=1)).train()
    _logger.info("parameters: tokenizer %d", sum(p.numel() for p in tokenizer.parameters()))

    def loss_of(rng: np.random.Generator, progress: float) -> Tensor:
        if progress >= FREE_UNTIL and not tokenizer.ready:
            many = to_unit(images[rng.integers(0, len(images), _KMEANS_IMAGES)])
            with torch.no_grad():
                tokenizer.begin(tokenizer.latents(many).reshape(-1, CODE_SIZE))
        return tokenizer_loss(tokenizer, to_unit(images[rng.integers(0, len(images), BATCH_SIZE)]), progress)

    return train(tokenizer, loss_of, Recipe(minutes, BATCH_SIZE, PEAK_LEARNING_RATE, 0.998, 1e-3), checkpoint)


@torch.no_grad()
def encode_tokens(tokenizer: ImageTokenizer, images: NDArray[np.uint8]) -> Tensor:
    """Tokens [n, 8, 8] of images."""
    parts = []
    for part in np.array_split(images, max(1, len(images) // 250)):
        latents = tokenizer.latents(to_unit(part))
        parts.append(nearest_codes(latents.reshape(-1, CODE_SIZE), tokenizer.codebook).view(latents.shape[:3]))
    return torch.cat(parts)


@torch.no_grad()
def judge(tokenizer: ImageTokenizer, images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean squared error per pixel on the scale from -1 to 1; and how many codes are used (perplexity)."""
    tokens = encode_tokens(tokenizer, images)
    share = torch.bincount(tokens.flatten(), minlength=CODES) / tokens.numel()
    perplexity = torch.exp(-(share * share.clamp(min=1e-12).log()).sum())
    total = 0.0
    for part, codes in zip(np.array_split(images, 40), torch.tensor_split(tokens, 40), strict=True):
        decoded = tokenizer.decode(tokenizer.codebook[codes]).clamp(0, 1)
        total += 4 * functional.mse_loss(decoded, to_unit(part)).item() * len(part)
    return total / len(images), perplexity.item()
