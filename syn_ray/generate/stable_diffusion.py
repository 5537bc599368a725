"""Latent diffusion, by any diffusers pipeline of Stable Diffusion's shape."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from syn_ray import embedded
from syn_ray.core.artifact import package_versions
from syn_ray.core.errors import UserError, nearest
from syn_ray.generate.config import GeneratorConfig
from syn_ray.generate.protocol import Pixels

KEPT_PROMPTS = 8192
"""Distinct prompts whose encodings are kept: 77 x 768 half-precision numbers each, about 1 GB at most."""


class StableDiffusionGenerator:
    """Draws images with one rng a sample, so that a sample does not depend on its neighbours or its batch."""

    def __init__(self, config: GeneratorConfig) -> None:
        self._config = config
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._pipeline = _load(config).to(self._device)
        self._pipeline.set_progress_bar_config(disable=True)
        self._encoded: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int], guidance_scale: float) -> Pixels:
        guided = guidance_scale > 1  # at 1 the prediction is the conditional one: no unconditional pass is run
        negative = self._encode([self._config.negative_prompt] * len(prompts)) if guided else None
        images = self._pipeline(
            prompt_embeds=self._encode(prompts),
            negative_prompt_embeds=negative,
            guidance_scale=guidance_scale,
            num_inference_steps=self._config.num_inference_steps,
            eta=self._config.eta,
            height=self._config.height,
            width=self._config.width,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
        ).images
        finite = np.isfinite(images).all(axis=(1, 2, 3), keepdims=True)
        return (np.where(finite, images, 0.0) * 255).round().astype(np.uint8)

    def provenance(self) -> dict[str, Any]:
        return {
            "pipeline": type(self._pipeline).__name__,
            "scheduler": type(self._pipeline.scheduler).__name__,
            "scheduler_config": {k: v for k, v in sorted(self._pipeline.scheduler.config.items()) if k[0] != "_"},
            "device": self._device.type,
            "versions": package_versions(),
            "watermark": "none",
        }

    def _encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Text encodings [batch, tokens, channels]; each distinct prompt is encoded once and kept."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._encoded]
        if len(self._encoded) + len(new) > KEPT_PROMPTS:
            self._encoded.clear()
            new = list(dict.fromkeys(prompts))
        for prompt in new:
            # One at a time: the encoding of a prompt must not depend on which others came along.
            embeds, _ = self._pipeline.encode_prompt(prompt, self._device, 1, do_classifier_free_guidance=False)
            self._encoded[prompt] = embeds[0]
        return torch.stack([self._encoded[prompt] for prompt in prompts])


def _load(config: GeneratorConfig) -> Any:
    local = embedded.resolve(config.model_id)
    where = str(local or config.model_id)
    offline = local is not None or os.environ.get("HF_HUB_OFFLINE") == "1"
    try:
        with _quiet():
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                where,
                revision=None if local else config.revision,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
                low_cpu_mem_usage=False,
                local_files_only=offline,
                trust_remote_code=False,
                safety_checker=None,
                requires_safety_checker=False,
            )
    except (OSError, ValueError) as error:
        raise UserError(
            f"generator '{config.model_id}' cannot be loaded: {str(error).strip().splitlines()[0]}; "
            f"fetch it with `hf download {config.model_id}` or give a local directory"
        ) from None
    if config.scheduler is not None:
        kind = getattr(diffusers, config.scheduler, None)
        if kind is None:
            known = [name for name in dir(diffusers) if name.endswith("Scheduler")]
            raise UserError(f"scheduler '{config.scheduler}' is not in diffusers{nearest(config.scheduler, known)}")
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    return pipeline


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no advice while weights load: the study shows its own progress."""
    level = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        yield
    finally:
        diffusers.logging.set_verbosity(level)
