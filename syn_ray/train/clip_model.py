"""The open_clip model that is trained: made untrained from its JSON layout, its tokenizer, AdamW, and its export."""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import safetensors.torch
import torch
from open_clip.tokenizer import HFTokenizer

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.train.model import decay_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from syn_ray.core.storage import Storage
    from syn_ray.train.clip_config import ClipConfig, ClipOptimizerConfig

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def create_clip(config: ClipConfig, seed: int) -> torch.nn.Module:
    """The untrained open_clip model; its weights follow from the seed, and no tower starts from pretrained ones.

    Raises:
        UserError: open_clip does not take the `model_cfg`.
    """
    layout = copy.deepcopy(config.architecture)
    layout["vision_cfg"]["timm_model_pretrained"] = False
    layout["text_cfg"]["hf_model_pretrained"] = False
    apart = layout.pop("custom_text", False) or "hf_model_name" in layout["text_cfg"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "model"))
        try:
            model: torch.nn.Module = (open_clip.CustomTextCLIP if apart else open_clip.CLIP)(**layout)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"model '{config.model}': open_clip does not take its model_cfg: {reason}") from None
    preprocessing = {"size": (config.image_px, config.image_px), "mode": "RGB", "fill_color": 0}
    open_clip.set_model_preprocess_cfg(model, preprocessing | _preprocessing(config))
    return model


def load_weights(config: ClipConfig, file: Path) -> torch.nn.Module:
    """The model with weights from a file: a flat state dict by open_clip's names.

    Raises:
        UserError: the file holds something else, or another model's weights.
    """
    model = create_clip(config, 0)
    try:
        open_clip.load_checkpoint(model, str(file), strict=True)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"weights '{file}' are not of {config.model}: {reason}") from None
    return model


def create_tokenizer(config: ClipConfig) -> Callable[[list[str]], torch.Tensor]:
    """The model's tokenizer: captions to int64 [captions, context length], cut off where they are longer.

    Raises:
        UserError: the model has one from the Hugging Face Hub, and it cannot be loaded.
    """
    text = config.architecture["text_cfg"]
    arguments: dict[str, Any] = {
        "context_length": text.get("context_length", 77),
        **(text.get("tokenizer_kwargs") or {}),
    }
    name = text.get("hf_tokenizer_name")
    tokenizer: Callable[[list[str]], torch.Tensor]
    if not name:
        tokenizer = open_clip.SimpleTokenizer(**arguments)
        return tokenizer
    try:
        tokenizer = HFTokenizer(name, tokenizer_mode=text.get("tokenizer_mode"), **arguments)
    except (OSError, ValueError) as error:  # what transformers raises where there is no such file or no network
        reason = str(error).splitlines()[0]
        raise UserError(f"model '{config.model}': its tokenizer '{name}' cannot be loaded: {reason}") from None
    return tokenizer


def create_clip_optimizer(model: torch.nn.Module, config: ClipOptimizerConfig) -> torch.optim.AdamW:
    """AdamW with decay as open_clip's own training has it: on all but vectors, single numbers and biases."""
    groups = decay_groups(model, config.weight_decay, lambda name: "bias" in name)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def export_clip(model: torch.nn.Module, config: ClipConfig, directory: Storage) -> None:
    """Writes a model that open_clip loads without this project.

    Model and transforms with `open_clip.create_model_and_transforms("local-dir:PATH")`, the tokenizer with
    `open_clip.get_tokenizer("local-dir:PATH")`; a model that open_clip has by name also with that name and
    `pretrained="PATH/open_clip_model.safetensors"`.

    Args:
        model: as `train_clip` returns it.
        config: the one it was trained with.
        directory: gets the files; the weights last, so that weights present means complete.
    """
    settings = {"model_cfg": config.architecture, "preprocess_cfg": _preprocessing(config)}
    directory.write_bytes(CONFIG_FILE, json.dumps(settings, indent=2).encode())
    tokenizer = create_tokenizer(config)
    if isinstance(tokenizer, HFTokenizer):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            for file in sorted(Path(folder).iterdir()):
                directory.write_bytes(file.name, file.read_bytes())
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    directory.write_bytes(WEIGHTS_FILE, safetensors.torch.save(weights))


def _preprocessing(config: ClipConfig) -> dict[str, Any]:
    """What is said of images in open_clip's words."""
    return {"mean": config.mean, "std": config.std, "interpolation": "bicubic", "resize_mode": "shortest"}
