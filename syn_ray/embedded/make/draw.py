"""Draws images with any of the embedded generators, by diffusers' own pipelines, for `measure.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

BATCH_SIZE = 50
_NO_CHECKER = {"safety_checker": None, "requires_safety_checker": False}


@dataclass(frozen=True)
class Options:
    """How to sample; each family takes what is its own.

    Attributes:
        steps: of the sampler; of the first stage's where there are two.
        upscaler_steps: of the second stage's.
        noise_level: what the second stage's input gets, of 1000.
        temperature: of the choice which tokens to keep, at the first step and at the last.
    """

    steps: int = 10
    upscaler_steps: int = 6
    noise_level: int = 100
    temperature: tuple[float, float] = (2.0, 0.0)


Drawer = Callable[[list[str], float, list[torch.Generator]], NDArray[np.float32]]


def load_drawer(model: Path, options: Options) -> Drawer:
    """What draws images [n, 32, 32, 3] from 0 to 1 for prompts, a guidance scale and an rng for each image."""
    if (model / "stage-1").is_dir():
        return _cascade(_load(model / "stage-1", **_NO_CHECKER), _load(model / "stage-2", **_NO_CHECKER), options)
    if (model / "vqvae").is_dir():
        return _masked(_load(model), options)
    return _latent(_load(model, **_NO_CHECKER), options)


@torch.inference_mode()
def draw(drawer: Drawer, prompts: list[str], guidance_scale: float) -> NDArray[np.uint8]:
    """One grey image [n, 32, 32] for each prompt, its noise fixed by its position."""
    parts = []
    for start in range(0, len(prompts), BATCH_SIZE):
        part = prompts[start : start + BATCH_SIZE]
        rngs = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        parts.append((drawer(part, guidance_scale, rngs)[..., 0] * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def _load(folder: Path, **extra: Any) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False, **extra
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _latent(pipeline: Any, options: Options) -> Drawer:
    def drawer(prompts: list[str], guidance_scale: float, rngs: list[torch.Generator]) -> NDArray[np.float32]:
        images: NDArray[np.float32] = pipeline(
            prompts,
            guidance_scale=guidance_scale,
            num_inference_steps=options.steps,
            height=32,
            width=32,
            generator=rngs,
            output_type="np",
        ).images
        return images

    return drawer


def _cascade(base: Any, upscaler: Any, options: Options) -> Drawer:
    def drawer(prompts: list[str], guidance_scale: float, rngs: list[torch.Generator]) -> NDArray[np.float32]:
        states, of_nothing = base.encode_prompt(prompts, do_classifier_free_guidance=guidance_scale > 1)
        small = base(
            prompt_embeds=states,
            negative_prompt_embeds=of_nothing,
            guidance_scale=guidance_scale,
            num_inference_steps=options.steps,
            generator=rngs,
            output_type="pt",
        ).images
        images: NDArray[np.float32] = upscaler(
            prompt_embeds=states,
            image=small,
            guidance_scale=1.0,  # the second stage adds pixels, not meaning
            noise_level=options.noise_level,
            num_inference_steps=options.upscaler_steps,
            generator=rngs,
            output_type="np",
        ).images
        return images

    return drawer


def _masked(pipeline: Any, options: Options) -> Drawer:
    def drawer(prompts: list[str], guidance_scale: float, rngs: list[torch.Generator]) -> NDArray[np.float32]:
        images: NDArray[np.float32] = pipeline(
            prompts,
            guidance_scale=guidance_scale,
            num_inference_steps=options.steps,
            temperature=options.temperature,
            generator=rngs[0],  # this pipeline takes one for the whole batch
            output_type="np",
        ).images
        return images

    return drawer
