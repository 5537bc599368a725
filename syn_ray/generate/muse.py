"""A masked-token model, by diffusers' aMUSEd classes: the open stand-in for Muse.

diffusers no longer maintains AmusedPipeline, and it takes one rng for a whole batch. The loop here runs on the models
themselves, and gives the pipeline's images to the byte where it is fed the same noise in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import diffusers
import torch
import transformers

from syn_ray.core.errors import UserError
from syn_ray.core.resources import GenerateResources
from syn_ray.generate.encodings import Encoding, Encodings
from syn_ray.generate.families import MuseConfig
from syn_ray.generate.finding import check_family, check_files, find_model
from syn_ray.generate.loading import facts, load_part, tune, working_device
from syn_ray.generate.masking import draw_noise, unmask, within_nucleus
from syn_ray.generate.protocol import Pixels, to_pixels


class MuseGenerator:
    """Draws an image's tokens in a few parallel steps and decodes them.

    Each sample's rng lives where the model runs: a step of aMUSEd draws two million numbers an image. So another kind
    of device draws other images; on one device a sample depends neither on its neighbours nor on its batch, but for
    a token whose two best codes are equal up to float rounding, or one that lies on the edge of `guidance_top_p`.

    Args:
        config: the model and how it is sampled.
        resources: what speeds it up.

    Raises:
        UserError: the model is not there, or is of another family.
    """

    def __init__(self, config: MuseConfig, resources: GenerateResources) -> None:
        if resources.placement != "device":
            raise UserError(f"resources: placement '{resources.placement}' is not for the family muse; set device")
        self._config = config
        self._device = working_device()
        self._model = find_model(config.model_id, config.revision)
        check_family(self._model, config.family)
        check_files(self._model, {})
        self._transformer = self._load(diffusers.UVit2DModel, "transformer", config.dtype)
        self._decoder = self._load(diffusers.VQModel, "vqvae", "float32")  # in float16 it overflows
        self._text_encoder = self._load(transformers.CLIPTextModelWithProjection, "text_encoder", config.dtype)
        self._tokenizer = load_part(self._model, transformers.CLIPTokenizer, "tokenizer")
        self._scheduler = load_part(self._model, diffusers.AmusedScheduler, "scheduler")
        tune(self._transformer, self._decoder, resources)
        self._prompts = Encodings(self._encode)
        scale = 2 ** (len(self._decoder.config.block_out_channels) - 1)
        native = self._transformer.config.sample_size * scale
        self._size = (config.height or native, config.width or native)
        self._grid = (self._size[0] // scale, self._size[1] // scale)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encodes the prompts that are not encoded yet."""
        with torch.inference_mode():
            self._prompts.add(prompts)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int], guidance_scale: float) -> Pixels:
        rngs = [torch.Generator(self._device).manual_seed(seed) for seed in seeds]
        tokens = self._draw_tokens(self._text(prompts, guidance_scale), rngs, guidance_scale)
        shape = (len(seeds), *self._grid, self._decoder.config.latent_channels)
        grid = tokens.reshape(shape[:-1])
        images = self._decoder.decode(grid, force_not_quantize=True, shape=shape).sample.clip(0, 1)
        return to_pixels(images.permute(0, 2, 3, 1).cpu().numpy())

    def provenance(self) -> dict[str, Any]:
        known = facts(self._model, "AmusedPipeline", self._scheduler, self._config.dtype, self._device)
        return {"family": self._config.family, **known}

    def _draw_tokens(
        self, text: dict[str, torch.Tensor], rngs: list[torch.Generator], guidance_scale: float
    ) -> torch.Tensor:
        """Tokens [batch, tokens], all masked at first and all known at last."""
        steps, mask_token = self._config.num_inference_steps, self._scheduler.config.mask_token_id
        count = self._grid[0] * self._grid[1]
        tokens = torch.full((len(rngs), count), mask_token, device=self._device)
        self._scheduler.set_timesteps(steps, self._config.temperature, self._device)
        for step in range(steps):
            logits = self._logits(tokens, text, self._config.guidance_at(step, guidance_scale))
            tokens = unmask(
                logits,
                tokens,
                draw_noise(rngs, count, logits.shape[-1]),
                step=step,
                temperatures=self._scheduler.temperatures,
                mask_token=mask_token,
                schedule=self._scheduler.config.masking_schedule,
            )
        return tokens

    def _logits(self, tokens: torch.Tensor, text: dict[str, torch.Tensor], guidance_scale: float) -> torch.Tensor:
        """Guided logits [batch, tokens, codes]."""
        grid = tokens.reshape(-1, *self._grid)
        if guidance_scale <= 1:
            prompts = {name: value[-len(grid) :] for name, value in text.items()}  # the empty ones are first
            return _by_token(self._transformer(grid, **prompts))
        unconditional, conditional = self._transformer(torch.cat([grid] * 2), **text).chunk(2)
        guided = _by_token(unconditional + guidance_scale * (conditional - unconditional))
        return within_nucleus(guided, _by_token(conditional), self._config.guidance_top_p)

    def _text(self, prompts: Sequence[str], guidance_scale: float) -> dict[str, torch.Tensor]:
        """What the transformer is told beside the tokens; twice the batch where it is guided."""
        both = [*[self._config.negative_prompt] * len(prompts), *prompts] if guidance_scale > 1 else list(prompts)
        text = self._prompts.batch(both, self._device)
        height, width = self._size  # the model was trained with the width first
        crop, score = self._config.micro_conditioning_crop_coord, self._config.micro_conditioning_aesthetic_score
        states = text["encoder_hidden_states"]
        micro = torch.tensor([[width, height, *crop, score]], device=self._device, dtype=states.dtype)
        return {**text, "micro_conds": micro.expand(len(both), -1)}

    def _encode(self, prompt: str) -> Encoding:
        ids = self._tokenizer(
            prompt,
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=self._tokenizer.model_max_length,
        ).input_ids
        answer = self._text_encoder(ids.to(self._device), return_dict=True, output_hidden_states=True)
        return {"pooled_text_emb": answer.text_embeds[0], "encoder_hidden_states": answer.hidden_states[-2][0]}

    def _load(self, kind: Any, name: str, dtype: str) -> Any:
        return load_part(self._model, kind, name, self._config.variant, dtype).to(self._device).eval()


def _by_token(logits: torch.Tensor) -> torch.Tensor:
    """From [batch, codes, height, width] to [batch, tokens, codes]."""
    return logits.flatten(2).permute(0, 2, 1)
