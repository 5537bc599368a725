"""Trains the transformer and the text encoder of the embedded Muse: to name masked image tokens, from text.

Masking follows the cosine schedule by which the sampler unmasks (Chang et al. 2022, section 3.3). Targets are smoothed,
mostly towards codes that look alike: guidance multiplies the logarithm of a probability's ratio to the unconditional
one, and a token hardly ever seen has no ratio to speak of; smoothing bounds it, and what it lets through looks right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AmusedScheduler, UVit2DModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from syn_ray.embedded.make.codebook import CODES, TOKENS_PER_SIDE
from syn_ray.embedded.make.idx import IMAGE_SIZE_PX
from syn_ray.embedded.make.loop import Recipe, train
from syn_ray.embedded.make.text import EMBEDDING_SIZE, PromptBook, build_text_encoder

BATCH_SIZE = 32  # of one process
MASK_TOKEN = CODES
MICRO_CONDITIONS = (float(IMAGE_SIZE_PX), float(IMAGE_SIZE_PX), 0.0, 0.0, 6.0)
"""Width, height, crop and aesthetic score: what AmusedPipeline sends for these images, always."""
ALIKE_SHARE, ANY_SHARE = 0.10, 0.03
_CONDITION_SIZE = 16


def build_transformer() -> Any:
    """An untrained transformer over all 64 tokens.

    Half the resolution inside is twice as fast, but then one state answers for four tokens.
    """
    return UVit2DModel(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
        in_channels=64,
        block_out_channels=96,
        num_res_blocks=1,
        block_num_heads=4,
        downsample=False,
        upsample=False,
        cond_embed_dim=EMBEDDING_SIZE,
        encoder_hidden_size=EMBEDDING_SIZE,
        micro_cond_encode_dim=_CONDITION_SIZE,
        micro_cond_embed_dim=_CONDITION_SIZE * len(MICRO_CONDITIONS),
        codebook_size=CODES,
        vocab_size=CODES + 1,
        sample_size=TOKENS_PER_SIDE,
    )


def build_scheduler() -> Any:
    """The sampler: unmasks the surest tokens first, by the cosine schedule."""
    return AmusedScheduler(mask_token_id=MASK_TOKEN, masking_schedule="cosine")


def build_pooling_text_encoder(tokenizer: CLIPTokenizer) -> Any:
    """An untrained text encoder of three layers: the pipeline takes the states before the last one."""
    return build_text_encoder(tokenizer, CLIPTextModelWithProjection, layers=3)


class TextToTokens(nn.Module):
    """Transformer and text encoder as one module, so that they share optimizer, average and checkpoint."""

    def __init__(self, transformer: Any, text_encoder: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder

    def forward(self, masked: Tensor, tokens: Tensor) -> Tensor:
        """Logits [n, 256, 8, 8] for masked image tokens [n, 8, 8] and prompts' tokens."""
        text = self.text_encoder(tokens, output_hidden_states=True)
        conditions = torch.tensor(MICRO_CONDITIONS).expand(len(masked), -1)
        logits: Tensor = self.transformer(masked, text.hidden_states[-2], text.text_embeds, conditions)
        return logits


def mask_counts(count: int, tokens: int, start: float) -> Tensor:
    """How many of an image's tokens are masked, for each image of a batch [n]: the cosine schedule, spread evenly.

    `start` from 0 to 1 moves the spread within its steps.
    """
    ratio = torch.cos((torch.arange(count) + start) / count * math.pi / 2)
    return (ratio * tokens).ceil().clamp(1, tokens).long()


def draw_mask(count: int) -> Tensor:
    """Which tokens are masked [n, 8, 8], at random places."""
    total = TOKENS_PER_SIDE**2
    masked = mask_counts(count, total, torch.rand(()).item())
    order = torch.rand(count, total).argsort(dim=1).argsort(dim=1)
    return (order < masked[:, None]).view(count, TOKENS_PER_SIDE, TOKENS_PER_SIDE)


def smooth_targets(codebook: Tensor) -> Tensor:
    """For each code the target distribution [k, k]: mostly itself, some of codes alike, a little of any.

    Codes are alike by their squared distance, in units of the median one to the nearest other code.
    """
    distance = torch.cdist(codebook, codebook).square()
    far = torch.full((len(codebook),), math.inf).diag()
    unit = (distance + far).amin(dim=1).median()
    alike = torch.softmax(-distance / unit, dim=1)
    own = torch.eye(len(codebook))
    return (1 - ALIKE_SHARE - ANY_SHARE) * own + ALIKE_SHARE * alike + ANY_SHARE / len(codebook)


def masked_loss(logits: Tensor, codes: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy between the targets of the masked tokens [n, 8, 8] and their logits [n, k, 8, 8]."""
    chosen = logits.permute(0, 2, 3, 1)[mask]
    return functional.cross_entropy(chosen, targets[codes[mask]])


def train_transformer(
    codes: Tensor,
    labels: NDArray[np.int64],
    attributes: NDArray[np.int64],
    targets: Tensor,
    tokenizer: CLIPTokenizer,
    minutes: float,
    checkpoint: Path,
    on_checkpoint: Callable[[TextToTokens, float], None] | None,
) -> TextToTokens:
    """The averaged model after so many minutes; goes on from the checkpoint where there is one.

    Args:
        codes: image tokens [n, 8, 8].
        labels: of the images.
        attributes: of the images' captions.
        targets: see `smooth_targets`.
        tokenizer: of the text.
        minutes: the budget, restarts included.
        checkpoint: file for the training's state.
        on_checkpoint: called with the averaged model and the seconds trained.
    """
    book = PromptBook()
    tokens = tokenizer(book.prompts, padding="max_length", return_tensors="pt").input_ids
    torch.manual_seed(0)  # the same beginning in all processes
    model = TextToTokens(build_transformer(), build_pooling_text_encoder(tokenizer)).train()

    def loss_of(rng: np.random.Generator, _: float) -> Tensor:
        chosen = rng.integers(0, len(labels), BATCH_SIZE)
        prompts = book.draw(labels[chosen], attributes[chosen], rng)
        mask = draw_mask(BATCH_SIZE)
        logits = model(codes[chosen].masked_fill(mask, MASK_TOKEN), tokens[prompts])
        return masked_loss(logits, codes[chosen], mask, targets)

    return train(model, loss_of, Recipe(minutes, BATCH_SIZE), checkpoint, on_checkpoint)
