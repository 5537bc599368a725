"""Loads a model the safe way and says what was loaded: what every family shares.

Safetensors only, and no code that comes with a model.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import torch
import transformers

from syn_ray.core.artifact import package_versions
from syn_ray.core.errors import UserError, nearest
from syn_ray.core.resources import GenerateResources
from syn_ray.generate.families import Lora
from syn_ray.generate.finding import (
    UNREADABLE,
    Model,
    cannot_load,
    check_family,
    check_files,
    how_to_fetch,
    licence,
    one_line,
)

_SWITCHED_OFF: dict[str, Any] = {
    "safety_checker": None,  # its black images would be a class of their own in a training set; the gate catches black
    "requires_safety_checker": False,
    "feature_extractor": None,
    "image_encoder": None,
    "watermarker": None,
    "add_watermarker": False,
}
"""Parts of pipelines that a study goes without, by the names of their constructors' arguments."""


def load_pipeline(
    model: Model, family: str, resources: GenerateResources, dtype: str, variant: str | None, **parts: Any
) -> Any:
    """A diffusers pipeline with its weights, where the resources want them.

    Args:
        model: what to load.
        family: the family that the pipeline must be of.
        resources: where its parts are to lie.
        dtype: a torch type's name.
        variant: which of the model's files.
        parts: components that stand in for those of the model; None leaves one out.

    Raises:
        UserError: files are missing, or the pipeline is of another family.
    """
    kind = _pipeline_class(model, family)
    accepted = inspect.signature(kind).parameters
    parts = {name: value for name, value in _SWITCHED_OFF.items() if name in accepted} | parts
    check_files(model, parts)
    balanced = resources.placement == "balanced" and torch.cuda.is_available()
    if resources.placement != "device" and torch.cuda.is_available() and not _has_accelerate():
        raise UserError(f"resources: placement '{resources.placement}' needs a package; run `pip install accelerate`")
    with reading(model, variant):
        pipeline = kind.from_pretrained(
            model.where,
            dtype=getattr(torch, dtype),
            variant=variant,
            use_safetensors=True,
            low_cpu_mem_usage=_has_accelerate(),
            trust_remote_code=False,
            device_map="balanced" if balanced else None,
            **model.source,
            **parts,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_part(model: Model, kind: Any, name: str, variant: str | None = None, dtype: str | None = None) -> Any:
    """One component of a pipeline, without the pipeline.

    Args:
        model: the pipeline's model.
        kind: the component's class.
        name: its folder.
        variant: which of the model's files.
        dtype: a torch type's name; None for what has no weights.

    Raises:
        UserError: its files are missing.
    """
    weights: dict[str, Any] = {}
    if dtype is not None:
        weights = {"dtype": getattr(torch, dtype), "variant": variant, "use_safetensors": True}
    with reading(model, variant):
        return kind.from_pretrained(model.where, subfolder=name, **weights, **model.source)


def place(pipeline: Any, resources: GenerateResources, device: torch.device) -> None:
    """Moves a pipeline's parts to where they work; without a GPU they are there."""
    if device.type == "cpu" or resources.placement == "balanced":
        return
    if resources.placement == "model_offload":
        pipeline.enable_model_cpu_offload(device=device)
    elif resources.placement == "sequential_offload":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)


def tune(denoiser: Any, decoder: Any, resources: GenerateResources) -> None:
    """Applies the settings that change speed and memory, and an image by its last bit at most."""
    if resources.channels_last:
        for module in (denoiser, decoder):
            if module is not None:
                module.to(memory_format=torch.channels_last)
    if resources.vae_slicing and hasattr(decoder, "use_slicing"):
        decoder.enable_slicing()
    if resources.compile:
        denoiser.compile()


def swap_scheduler(pipeline: Any, name: str | None, changes: dict[str, Any]) -> None:
    """Gives a pipeline another scheduler class, or its own with other arguments.

    Raises:
        UserError: diffusers has no such scheduler, or the scheduler no such argument.
    """
    if name is None and not changes:
        return
    kind = type(pipeline.scheduler) if name is None else getattr(diffusers, name, None)
    if kind is None:
        known = [known for known in dir(diffusers) if known.endswith("Scheduler")]
        raise UserError(f"scheduler '{name}' is not in diffusers{nearest(str(name), known)}")
    arguments = list(inspect.signature(kind).parameters)
    for key in changes:
        if key not in arguments:
            raise UserError(f"scheduler_config: {kind.__name__} takes no '{key}'{nearest(key, arguments)}")
    with _quiet():
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **changes)


def add_lora(pipeline: Any, lora: Lora) -> dict[str, Any]:
    """Adds a LoRA to the pipeline's weights for good.

    Returns:
        What was added, for the provenance.

    Raises:
        UserError: it is not there, or does not fit.
    """
    offline = os.environ.get("HF_HUB_OFFLINE") == "1"
    path = Path(lora.model_id)
    try:
        if path.exists() or path.is_absolute():
            file, revision = (path / lora.weight_name if path.is_dir() else path), None
            if not file.is_file():
                raise FileNotFoundError(f"there is no file {file}")
        else:
            file = Path(
                huggingface_hub.hf_hub_download(
                    lora.model_id, lora.weight_name, revision=lora.revision, local_files_only=offline
                )
            )
            revision = file.parent.name
    except UNREADABLE as error:
        why = f"{lora.weight_name} is not in the Hub's cache, HF_HUB_OFFLINE=1" if offline else one_line(error)
        remedy = "check the path" if path.is_absolute() else f"fetch it with `hf download {lora.model_id}`"
        raise UserError(f"LoRA '{lora.model_id}' cannot be loaded: {why}; {remedy}") from None
    if importlib.util.find_spec("peft") is None:
        raise UserError(f"LoRA '{lora.model_id}' needs a package; run `pip install peft`")
    try:
        with _quiet():
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, local_files_only=True)
            pipeline.fuse_lora(lora_scale=lora.scale)
            pipeline.unload_lora_weights()
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"LoRA '{lora.model_id}' does not fit {type(pipeline).__name__}: {one_line(error)}; "
            "give one made for this model"
        ) from None
    return {"model_id": lora.model_id, "weight_name": file.name, "revision": revision, "scale": lora.scale}


def facts(model: Model, pipeline: str, scheduler: Any, dtype: str, device: torch.device) -> dict[str, Any]:
    """What every shard says of the model it was drawn with; the same in every run."""
    stated = licence(model)
    return {
        "pipeline": pipeline,
        "model_id": model.model_id,
        "revision": model.revision,
        # Left out where it is not known: whether the Hub answers must not be in an image's file.
        **({} if stated is None else {"licence": stated}),
        "watermark": "off" if _has_watermarker(pipeline) else "none",
        "scheduler": type(scheduler).__name__,
        "scheduler_config": {key: value for key, value in sorted(scheduler.config.items()) if key[0] != "_"},
        "dtype": dtype,
        "device": device.type,
        "versions": package_versions(),
    }


@contextlib.contextmanager
def reading(model: Model, variant: str | None = None) -> Iterator[None]:
    """Turns what a loader raises into one line, and keeps it from talking."""
    try:
        with _quiet():
            yield
    except UNREADABLE as error:
        remedy = f"check variant: {variant}, or " if variant is not None else ""
        cannot_load(model.model_id, one_line(error), remedy + how_to_fetch(model.model_id, model.revision))


def working_device() -> torch.device:
    """The GPU this process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _pipeline_class(model: Model, family: str) -> Any:
    check_family(model, family)
    name = str(model.index["_class_name"])
    kind = getattr(diffusers, name, None)
    if kind is None:
        why = f"its pipeline {name} is not in diffusers {diffusers.__version__}"
        cannot_load(model.model_id, why, "no code of a model is run; give one that diffusers has a pipeline for")
    return kind


def _has_watermarker(pipeline: str) -> bool:
    kind = getattr(diffusers, pipeline, None)
    return kind is not None and not {"watermarker", "add_watermarker"}.isdisjoint(inspect.signature(kind).parameters)


def _has_accelerate() -> bool:
    return importlib.util.find_spec("accelerate") is not None


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
