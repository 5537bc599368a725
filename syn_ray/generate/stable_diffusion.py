"""Latent diffusion, by diffusers' own pipelines: Stable Diffusion 1 to 3, SDXL, FLUX and what is built like them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.generate.encodings import Encoding, Encodings
from syn_ray.generate.families import StableDiffusionConfig
from syn_ray.generate.finding import cannot_load, find_model
from syn_ray.generate.loading import add_lora, facts, load_pipeline, place, swap_scheduler, tune, working_device
from syn_ray.generate.protocol import Pixels, to_pixels

_ANSWERS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
"""The order in which diffusers' `encode_prompt` answers, as far as a pipeline knows these names."""


class StableDiffusionGenerator:
    """Draws images with one rng a sample, so that a sample does not depend on its neighbours or its batch.

    Args:
        config: the model and how it is sampled.
        resources: where its parts lie, and what speeds them up.

    Raises:
        UserError: the model, its LoRA or its scheduler is not there, or the pipeline is of another kind.
    """

    def __init__(self, config: StableDiffusionConfig, resources: GenerateResources) -> None:
        self._config = config
        self._device = working_device()
        self._model = find_model(config.model_id, config.revision)
        self._pipeline = load_pipeline(self._model, config.family, resources, config.dtype, config.variant)
        self._takes = set(inspect.signature(self._pipeline.__call__).parameters)
        self._encoder_takes = inspect.signature(self._pipeline.encode_prompt).parameters
        if any("mask" in name for name in self._encoder_takes):
            kind = type(self._pipeline).__name__
            why = f"{kind} has attention masks beside its encodings"
            cannot_load(config.model_id, why, "give a model built like Stable Diffusion 1 to 3, SDXL or FLUX")
        swap_scheduler(self._pipeline, config.scheduler, config.scheduler_config)
        if config.eta and "eta" not in inspect.signature(self._pipeline.scheduler.step).parameters:
            scheduler = type(self._pipeline.scheduler).__name__
            raise UserError(
                f"eta {config.eta:g}: {scheduler} takes none; leave eta at 0, or set scheduler: DDIMScheduler"
            )
        self._lora = None if config.lora is None else add_lora(self._pipeline, config.lora)
        place(self._pipeline, resources, self._device)
        tune(self._denoiser, self._pipeline.vae, resources)
        self._prompts = Encodings(self._encode)
        self._negatives = Encodings(self._encode_negative)

    @property
    def _denoiser(self) -> Any:
        return getattr(self._pipeline, "unet", None) or self._pipeline.transformer

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encodes the prompts that are not encoded yet."""
        with torch.inference_mode():
            self._prompts.add(prompts)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int], guidance_scale: float) -> Pixels:
        arguments: dict[str, Any] = {
            "num_inference_steps": self._config.num_inference_steps,
            "eta": self._config.eta,
            "height": self._config.height,
            "width": self._config.width,
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            "output_type": "np",
        }
        arguments |= self._prompts.batch(prompts, self._device)
        arguments |= self._guidance(guidance_scale, len(prompts))
        images = self._pipeline(**{name: value for name, value in arguments.items() if name in self._takes}).images
        return to_pixels(images)

    def provenance(self) -> dict[str, Any]:
        pipeline = self._pipeline
        known = facts(self._model, type(pipeline).__name__, pipeline.scheduler, self._config.dtype, self._device)
        return {"family": self._config.family, **known, "lora": self._lora}

    def _guidance(self, guidance_scale: float, batch: int) -> dict[str, Any]:
        """Guidance as the pipeline takes it; at 1 no unconditional pass is run."""
        config = self._denoiser.config
        if config.get("guidance_embeds") or config.get("time_cond_proj_dim"):  # a distilled model is told the scale
            return {"guidance_scale": guidance_scale}
        name = "true_cfg_scale" if "true_cfg_scale" in self._takes else "guidance_scale"
        if guidance_scale == 1:
            return {name: 1.0}
        negative = self._negatives.batch([self._config.negative_prompt] * batch, self._device)
        return {name: guidance_scale, **negative}

    def _encode(self, prompt: str, *, negative: bool = False) -> Encoding:
        """One prompt's encodings by the names of the pipeline's arguments, without the batch dimension."""
        arguments: dict[str, Any] = {
            "prompt": prompt,
            "device": self._device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": negative,
            # None where it is empty: SDXL then answers with zeros, as it was trained.
            "negative_prompt": prompt if negative and prompt else None,
        }
        if self._config.max_sequence_length is not None:
            arguments["max_sequence_length"] = self._config.max_sequence_length
        required = {name for name, value in self._encoder_takes.items() if value.default is inspect.Parameter.empty}
        arguments = dict.fromkeys(required) | {n: v for n, v in arguments.items() if n in self._encoder_takes}
        names = [name for name in _ANSWERS if name in self._encoder_takes]
        answers = dict(zip(names, self._pipeline.encode_prompt(**arguments), strict=False))
        wanted = [name for name in names if name.startswith("negative") == negative]
        return {name: answers[name][0] for name in wanted}

    def _encode_negative(self, prompt: str) -> Encoding:
        if "negative_prompt" in self._encoder_takes:
            return self._encode(prompt, negative=True)
        return {f"negative_{name}": encoding for name, encoding in self._encode(prompt).items()}  # FLUX
