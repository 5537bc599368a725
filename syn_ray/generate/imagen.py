"""A cascade of pixel diffusion models, by diffusers' DeepFloyd IF pipelines: the open stand-in for Imagen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from syn_ray.core.resources import GenerateResources
from syn_ray.generate.encodings import Encoding, Encodings
from syn_ray.generate.families import ImagenConfig
from syn_ray.generate.finding import Model, cannot_load, check_family, check_files, find_model
from syn_ray.generate.loading import facts, load_part, load_pipeline, place, swap_scheduler, tune, working_device
from syn_ray.generate.protocol import Pixels, to_pixels


class ImagenGenerator:
    """Draws small images from text (stage I) and enlarges them (stage II), with one rng a sample through both.

    The T5 encodes a shard's prompts before the UNets draw, and on a GPU it is not there while they do.

    Args:
        config: the two models and how they are sampled.
        resources: where their parts lie, and what speeds them up.

    Raises:
        UserError: one of the models is not there, or its pipeline is not a stage of a cascade.
    """

    def __init__(self, config: ImagenConfig, resources: GenerateResources) -> None:
        self._config = config
        self._resources = resources
        self._device = working_device()
        self._models = _find_stages(config)
        arguments = (config.family, resources, config.dtype, config.variant)
        self._stage_1 = load_pipeline(self._models[0], *arguments, text_encoder=None)
        self._stage_2 = load_pipeline(self._models[1], *arguments, text_encoder=None, tokenizer=None)
        swap_scheduler(self._stage_1, config.scheduler, {})
        swap_scheduler(self._stage_2, config.super_resolution_scheduler, {})
        for stage in (self._stage_1, self._stage_2):
            place(stage, resources, self._device)
            tune(stage.unet, None, resources)
        self._text_encoder: Any = None
        self._prompts = Encodings(self._encode)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encodes the prompts that are not encoded yet, with the UNets out of the T5's way."""
        wanted = [*prompts, self._config.negative_prompt]
        if not self._prompts.missing(wanted):
            return
        self._bring_text_encoder()
        with torch.inference_mode():
            self._prompts.add(wanted)
        self._put_text_encoder_away()

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int], guidance_scale: float) -> Pixels:
        self.prepare(prompts)
        rngs = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        small = self._stage_1(
            **self._text(prompts, guidance_scale),
            num_inference_steps=self._config.num_inference_steps,
            generator=rngs,
            output_type="pt",
        ).images
        images = self._stage_2(
            **self._text(prompts, self._config.super_resolution_guidance_scale),
            image=small,
            num_inference_steps=self._config.super_resolution_steps,
            noise_level=self._config.noise_level,
            generator=rngs,
            output_type="pt",
        ).images
        images = (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        return to_pixels(images.float().cpu().numpy())

    def provenance(self) -> dict[str, Any]:
        first, second = (
            facts(model, type(stage).__name__, stage.scheduler, self._config.dtype, self._device)
            for model, stage in zip(self._models, (self._stage_1, self._stage_2), strict=True)
        )
        own = ("pipeline", "model_id", "revision", "licence", "watermark", "scheduler", "scheduler_config")
        return {
            "family": self._config.family,
            **first,
            "super_resolution": {name: second[name] for name in own if name in second},
        }

    def _text(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, Any]:
        """Guidance and encodings as a stage takes them; at 1 no unconditional pass is run."""
        arguments: dict[str, Any] = {"guidance_scale": guidance_scale, **self._prompts.batch(prompts, self._device)}
        if guidance_scale > 1:
            negative = self._prompts.batch([self._config.negative_prompt] * len(prompts), self._device)
            arguments["negative_prompt_embeds"] = negative["prompt_embeds"]
        return arguments

    def _encode(self, prompt: str) -> Encoding:
        embeds, _ = self._stage_1.encode_prompt(prompt, do_classifier_free_guidance=False, device=self._device)
        return {"prompt_embeds": embeds[0]}

    def _bring_text_encoder(self) -> None:
        if self._swaps:
            self._move_unets("cpu")
        if self._text_encoder is None:
            kind = getattr(transformers, self._models[0].index["text_encoder"][1])
            self._text_encoder = load_part(
                self._models[0], kind, "text_encoder", self._config.variant, self._config.dtype
            )
        self._stage_1.text_encoder = self._text_encoder.to(self._device)

    def _put_text_encoder_away(self) -> None:
        self._stage_1.text_encoder = None
        if self._resources.text_encoder == "reload":
            self._text_encoder = None
        elif self._resources.text_encoder == "host":
            self._text_encoder.to("cpu")
        if self._swaps:
            torch.cuda.empty_cache()
            self._move_unets(self._device)

    @property
    def _swaps(self) -> bool:
        """Whether text encoder and UNets take turns on the GPU; offloaded UNets come and go by themselves."""
        on_gpu = self._device.type == "cuda" and self._resources.placement == "device"
        return on_gpu and self._resources.text_encoder != "device"

    def _move_unets(self, device: torch.device | str) -> None:
        for stage in (self._stage_1, self._stage_2):
            stage.unet.to(device)


def _find_stages(config: ImagenConfig) -> tuple[Model, Model]:
    if config.super_resolution_model_id is None:
        first = find_model(config.model_id, config.revision, "stage-1")
        second = find_model(config.model_id, config.revision, "stage-2")
    else:
        first = find_model(config.model_id, config.revision)
        second = find_model(config.super_resolution_model_id, config.super_resolution_revision)
    for model, stage, wanted in ((first, "I", "IFPipeline"), (second, "II", "IFSuperResolutionPipeline")):
        check_family(model, config.family)
        found = model.index["_class_name"]
        if found != wanted:
            cannot_load(model.model_id, f"its pipeline is {found}, stage {stage} is a {wanted}", "exchange the stages")
    check_files(first, dict.fromkeys(name for name in first.index if name != "text_encoder"))
    return first, second
