"""Images a second of a generator against diffusers' own pipeline, in one process, and how much of the chip that is.

    python -m syn_ray.generate.benchmark sd-1.5 --dtype bfloat16 --batch-size 32 --compile
    python -m syn_ray.generate.benchmark amused-256 --reduced --dtype float32 --batch-size 2

A name of `architectures.SHAPES` is built with random weights (speed does not depend on them); anything else is a
`preset:` of generators, whose model must be on this machine. Contenders take turns, so that a busy or throttling
machine slows all alike; the figure of each is its median.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch.utils.flop_counter import FlopCounterMode

from syn_ray.core.resources import GenerateResources
from syn_ray.generate.architectures import SHAPES, write_random
from syn_ray.generate.families import GeneratorConfig, ImagenConfig, MuseConfig
from syn_ray.generate.finding import find_model
from syn_ray.generate.loading import load_pipeline, working_device
from syn_ray.generate.protocol import ImageGenerator, load_generator

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "A10G": 70.0, "T4": 65.0}
"""Dense half-precision TFLOP/s of NVIDIA's data sheets (SXM where there are several), by part of the device's name."""
_FAMILIES = {"sd-1.5": "stable_diffusion", "deepfloyd-if-m": "imagen", "amused-256": "muse"}

Draw = Callable[[Sequence[str], Sequence[int]], Any]


@dataclasses.dataclass(frozen=True)
class Figure:
    """One contender's speed."""

    name: str
    images_per_second: float
    """Of the median batch."""
    batch_seconds: tuple[float, ...]
    peak_share: float | None
    """Counted floating point operations a second over the chip's peak; None where the peak is not known."""


def main(arguments: Sequence[str] | None = None) -> list[Figure]:
    """Measures, prints one JSON line for each contender, and returns them."""
    options = _options().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        config = _config(options, Path(folder))
        contenders: dict[str, Draw] = {"diffusers": _stock(config, options.guidance_scale)}
        for name in ("syn_ray", "syn_ray compiled") if options.compile else ("syn_ray",):
            resources = GenerateResources(compile=name.endswith("compiled"), channels_last=options.channels_last)
            contenders[name] = _ours(load_generator(config, resources), options.guidance_scale)
        figures = measure(contenders, options.batch_size, options.repeats, options.peak_tflops or _peak(options.dtype))
    for figure in figures:
        print(json.dumps(dataclasses.asdict(figure)))  # noqa: T201 - the module is a command
    return figures


def measure(contenders: dict[str, Draw], batch_size: int, repeats: int, peak_tflops: float | None) -> list[Figure]:
    """The speed of each contender over batches drawn in turn, after one that warms it up.

    Args:
        contenders: what draws a batch, by name; the first one's operations are counted and stand for all.
        batch_size: images in a batch.
        repeats: timed batches of each.
        peak_tflops: of the chip.
    """
    prompts = [f"a photo of thing {number % 4}" for number in range(batch_size)]
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with FlopCounterMode(display=False) as counter:
        next(iter(contenders.values()))(prompts, range(batch_size))
    for turn in range(repeats + 1):
        for name, draw in contenders.items():
            started = time.perf_counter()
            draw(prompts, range(turn * batch_size, (turn + 1) * batch_size))
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    work = counter.get_total_flops() / 1e12
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        Figure(
            name,
            round(batch_size / median, 3),
            tuple(round(s, 4) for s in seconds[name]),
            None if peak_tflops is None else round(work / median / peak_tflops, 4),
        )
        for name, median in medians.items()
    ]


def _config(options: argparse.Namespace, folder: Path) -> GeneratorConfig:
    adapter: pydantic.TypeAdapter[GeneratorConfig] = pydantic.TypeAdapter(GeneratorConfig)
    values: dict[str, Any] = {"preset": options.model}
    if options.model in SHAPES:
        write_random(options.model, folder, reduced=options.reduced, dtype=getattr(torch, options.dtype))
        values = {"family": _FAMILIES[options.model], "model_id": str(folder)}
    values |= {"dtype": options.dtype, "num_inference_steps": options.num_inference_steps}
    if values.get("family") == "imagen":
        values["super_resolution_steps"] = options.num_inference_steps
    return adapter.validate_python(values)


def _ours(generator: ImageGenerator, guidance_scale: float) -> Draw:
    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        return generator.generate(prompts, seeds, guidance_scale)

    return draw


def _stock(config: GeneratorConfig, guidance_scale: float) -> Draw:
    """What diffusers' documentation calls: prompts as text, and one rng for the whole batch."""
    if isinstance(config, ImagenConfig):
        return _stock_cascade(config, guidance_scale)
    pipeline = _pipeline(config, config.model_id, config.revision)

    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        rng = torch.Generator(working_device()).manual_seed(seeds[0])
        steps = config.num_inference_steps
        arguments = {"num_inference_steps": steps, "generator": rng, "output_type": "np"}
        return pipeline(list(prompts), guidance_scale=guidance_scale, **arguments).images

    return draw


def _stock_cascade(config: ImagenConfig, guidance_scale: float) -> Draw:
    if config.super_resolution_model_id is None:
        models: list[tuple[str, str | None]] = [(f"{config.model_id}/{part}", None) for part in ("stage-1", "stage-2")]
    else:
        models = [
            (config.model_id, config.revision),
            (config.super_resolution_model_id, config.super_resolution_revision),
        ]
    first = _pipeline(config, *models[0])
    second = _pipeline(config, *models[1], text_encoder=None, tokenizer=None)

    def draw(prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        embeds, negative = first.encode_prompt(list(prompts))
        common = {
            "prompt_embeds": embeds,
            "negative_prompt_embeds": negative,
            "generator": torch.Generator(working_device()).manual_seed(seeds[0]),
            "output_type": "pt",
        }
        steps = config.num_inference_steps
        small = first(num_inference_steps=steps, guidance_scale=guidance_scale, **common).images
        scale = config.super_resolution_guidance_scale
        steps = config.super_resolution_steps
        return second(image=small, num_inference_steps=steps, guidance_scale=scale, **common).images

    return draw


def _pipeline(config: GeneratorConfig, model_id: str, revision: str | None, **parts: Any) -> Any:
    model = find_model(model_id, revision)
    loaded = load_pipeline(model, config.family, GenerateResources(), config.dtype, config.variant, **parts)
    if isinstance(config, MuseConfig):
        loaded.vqvae.to(torch.float32)  # as diffusers' documentation advises for half precision
    return loaded.to(working_device())


def _peak(dtype: str) -> float | None:
    if not torch.cuda.is_available() or dtype == "float32":
        return None
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m syn_ray.generate.benchmark", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("model", help=f"{', '.join(SHAPES)} with random weights, or a preset")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-inference-steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=5, help="timed batches of each contender")
    parser.add_argument("--compile", action="store_true", help="a third contender with torch.compile")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--reduced", action="store_true", help="tiny layers, for a look at how it works")
    parser.add_argument("--peak-tflops", type=float, help="of the chip, where it is not a known one")
    return parser


if __name__ == "__main__":
    main()
