"""The true shapes of public models with random weights: for benchmarks and tests, which download nothing.

Sources: Stable Diffusion 1.5's published configurations; diffusers' conversion scripts for aMUSEd and DeepFloyd IF. Of
IF's stage I the rule is that of the published IF-I-XL, channels x (1, 2, 3, 4) and 3 layers, which comes to 372 M
parameters for M (its model card says 400 M). Of stage II-M the channels could not be found: those here are chosen to
come to the 450 M of its model card.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

Shape = dict[str, Any]

_CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
_IF_UNET = {
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "out_channels": 6,
    "encoder_hid_dim": 4096,
    "attention_head_dim": 64,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
}
_IF_SCHEDULER = {
    "variance_type": "learned_range",
    "beta_schedule": "squaredcos_cap_v2",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
}
# One of T5-XXL's 24 layers: it runs once a prompt and is no part of what is measured.
_T5 = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64, "num_layers": 1}

SHAPES: dict[str, dict[str, Shape]] = {
    "sd-1.5": {
        "unet": {"sample_size": 64, "cross_attention_dim": 768},  # the rest are the class's own defaults
        "vae": {
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
            "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2,
            "sample_size": 512,
        },
        "text_encoder": _CLIP_L,
        "scheduler": {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
        },
    },
    "deepfloyd-if-m": {
        "stage-1": _IF_UNET
        | {
            "sample_size": 64,
            "in_channels": 3,
            "block_out_channels": [192, 384, 576, 768],
            "layers_per_block": 3,
            "cross_attention_dim": 768,
            "down_block_types": ["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
            "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
        },
        "stage-2": _IF_UNET
        | {
            "sample_size": 256,
            "in_channels": 6,
            "block_out_channels": [160, 320, 480, 640, 640],
            "layers_per_block": [2, 2, 3, 5, 5],
            "cross_attention_dim": 640,
            "down_block_types": [*["ResnetDownsampleBlock2D"] * 3, *["SimpleCrossAttnDownBlock2D"] * 2],
            "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 2, *["ResnetUpsampleBlock2D"] * 3],
            "class_embed_type": "timestep",
            "only_cross_attention": True,
            "time_embedding_dim": 640,
            "time_embedding_act_fn": "gelu",
            "resnet_skip_time_act": True,
            "resnet_out_scale_factor": 1 / 0.7071,
            "mid_block_scale_factor": 1 / 0.7071,
        },
        "text_encoder": _T5,
    },
    "amused-256": {
        "transformer": {"sample_size": 16},  # the rest are the class's own defaults
        "vqvae": {
            "down_block_types": ["DownEncoderBlock2D"] * 5,
            "up_block_types": ["UpDecoderBlock2D"] * 5,
            "block_out_channels": [128, 256, 256, 512, 768],
            "layers_per_block": 2,
            "latent_channels": 64,
            "num_vq_embeddings": 8192,
            "mid_block_add_attention": False,
            "lookup_from_codebook": True,
        },
        "text_encoder": _CLIP_L,
        "scheduler": {"mask_token_id": 8255},
    },
}

_SMALL_CLIP = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 32,
}
_SMALL_IF = {
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "encoder_hid_dim": 32,
    "attention_head_dim": 16,
    "addition_embed_type_num_heads": 4,
}
REDUCED: dict[str, dict[str, Shape]] = {
    "sd-1.5": {
        "unet": {
            "sample_size": 8,
            "block_out_channels": [32, 64, 64, 64],
            "layers_per_block": 1,
            "cross_attention_dim": 32,
            "attention_head_dim": 4,
        },
        "vae": {"block_out_channels": [32] * 4, "layers_per_block": 1, "sample_size": 64},
        "text_encoder": _SMALL_CLIP,
    },
    "deepfloyd-if-m": {
        "stage-1": _SMALL_IF | {"sample_size": 16, "block_out_channels": [32, 32, 64, 64]},
        "stage-2": _SMALL_IF
        | {"sample_size": 32, "block_out_channels": [32, 32, 32, 64, 64], "time_embedding_dim": 64},
        "text_encoder": {"vocab_size": 256, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4},
    },
    "amused-256": {
        "transformer": {
            "sample_size": 4,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "in_channels": 64,
            "block_out_channels": 64,
            "num_res_blocks": 1,
            "block_num_heads": 4,
            "cond_embed_dim": 32,
            "encoder_hidden_size": 32,
            "micro_cond_encode_dim": 16,
            "micro_cond_embed_dim": 80,
            "codebook_size": 64,
            "vocab_size": 65,
        },
        "vqvae": {
            "block_out_channels": [32] * 5,
            "layers_per_block": 1,
            "latent_channels": 8,
            "num_vq_embeddings": 64,
        },
        "text_encoder": _SMALL_CLIP,
        "scheduler": {"mask_token_id": 64},
    },
}
"""The same architectures with fewer channels, layers and pixels."""


def shape(name: str, part: str, *, reduced: bool = False) -> Shape:
    """The configuration of one part of a model."""
    return SHAPES[name].get(part, {}) | (REDUCED[name].get(part, {}) if reduced else {})


def write_random(name: str, directory: Path, *, reduced: bool = False, dtype: torch.dtype = torch.float32) -> Path:
    """Writes a model with random weights in diffusers' format, as `model_id` takes it.

    Args:
        name: a key of `SHAPES`.
        directory: where to; a cascade gets the folders `stage-1` and `stage-2`.
        reduced: small enough for a test.
        dtype: of the files.
    """

    def cast(module: Any) -> Any:
        return module.to(dtype)

    def part(kind: Any, key: str) -> Any:
        return cast(kind.from_config(shape(name, key, reduced=reduced)))

    if name == "deepfloyd-if-m":
        scheduler = diffusers.DDPMScheduler(**_IF_SCHEDULER)
        noising = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
        config = transformers.T5Config(**shape(name, "text_encoder", reduced=reduced), feed_forward_proj="gated-gelu")
        first = {"unet": part(diffusers.UNet2DConditionModel, "stage-1"), "scheduler": scheduler}
        text = {"tokenizer": t5_tokenizer(), "text_encoder": cast(transformers.T5EncoderModel(config))}
        second = {"unet": part(diffusers.UNet2DConditionModel, "stage-2"), "scheduler": scheduler}
        write_model(directory / "stage-1", "IFPipeline", first | text)
        write_model(directory / "stage-2", "IFSuperResolutionPipeline", second | {"image_noising_scheduler": noising})
        return directory
    tokenizer = clip_tokenizer()
    parts: dict[str, Any] = {"tokenizer": tokenizer}
    text_config = clip_config(tokenizer, shape(name, "text_encoder", reduced=reduced))
    if name == "sd-1.5":
        parts["text_encoder"] = cast(transformers.CLIPTextModel(text_config))
        parts["unet"] = part(diffusers.UNet2DConditionModel, "unet")
        parts["vae"] = part(diffusers.AutoencoderKL, "vae")
        parts["scheduler"] = diffusers.DDIMScheduler(**shape(name, "scheduler", reduced=reduced))
        return write_model(directory, "StableDiffusionPipeline", parts)
    parts["text_encoder"] = cast(transformers.CLIPTextModelWithProjection(text_config))
    parts["transformer"] = part(diffusers.UVit2DModel, "transformer")
    parts["vqvae"] = part(diffusers.VQModel, "vqvae")
    parts["scheduler"] = diffusers.AmusedScheduler(**shape(name, "scheduler", reduced=reduced))
    return write_model(directory, "AmusedPipeline", parts)


def write_model(directory: Path, pipeline: str, parts: Mapping[str, Any]) -> Path:
    """Writes a pipeline's parts and the index that names their classes."""
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    for name, value in parts.items():
        value.save_pretrained(directory / name)
        index[name] = [type(value).__module__.split(".")[0], type(value).__name__]
    (directory / "model_index.json").write_text(json.dumps(index, indent=1))
    return directory


def clip_tokenizer() -> Any:
    """A CLIP tokenizer that spells every word."""
    tokens = ["<|startoftext|>", "<|endoftext|>"]
    tokens += [c + end for c in string.ascii_lowercase + string.digits + string.punctuation for end in ("", "</w>")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77, pad_token=tokens[1])


def t5_tokenizer() -> Any:
    """A T5 tokenizer that spells every word."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    vocabulary += [(c, -8.0) for c in string.ascii_lowercase + string.digits + string.punctuation]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)


def clip_config(tokenizer: Any, values: Shape) -> Any:
    """A CLIP text encoder's configuration, with the ends of a prompt as the tokenizer marks them."""
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return transformers.CLIPTextConfig(**values, **ends)
