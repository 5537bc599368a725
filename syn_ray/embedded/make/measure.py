"""Measures an embedded generator with the embedded classifier: the tables in README.md beside this file.

Fifty images a class and seed, drawn by the generator that studies use: macro F1, diversity, the share of images that
measure as their caption says, images a second of this process, and the bytes of an image.
Run: `python -m syn_ray.embedded.make.measure --generator imagen --grid grid.png`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
import timm
import torch
import yaml
from PIL import Image

from syn_ray.core.seeds import sample_seed
from syn_ray.embedded import CLASS_NAMES, CLASSIFIER, asset_path
from syn_ray.embedded.captions import attributes, compose
from syn_ray.embedded.make.classifier import to_input
from syn_ray.embedded.make.idx import DEFAULT_DATA, TRAIN_SPLITS, load_fashion
from syn_ray.generate.config import ImageFormat
from syn_ray.generate.encode import encode_pixels
from syn_ray.generate.families import GeneratorConfig
from syn_ray.generate.protocol import ImageGenerator, Pixels, load_generator
from syn_ray.score.diversity import diversity
from syn_ray.score.recognizability import recognizability
from syn_ray.study.load import built_in_studies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IMAGES_PER_CLASS = 50
GUIDANCE_SCALES = (1.0, 1.5, 2.0, 4.0, 7.5)
BATCH_SIZE = 64
SAVED = ImageFormat(size_px=32, mode="L", codec="png")
STUDY = "embedded-families"
"""Says how each generator samples."""


class Judge:
    """The reference classifier, as the score stage uses it."""

    def __init__(self) -> None:
        self._model: Any = timm.create_model(f"local-dir:{asset_path(CLASSIFIER)}", pretrained=True).eval()

    @torch.inference_mode()
    def scores(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[float, float]:
        """Macro F1 and diversity of grey images [n, 32, 32]."""
        features = self._model.forward_head(self._model.forward_features(to_input(images)), pre_logits=True)
        predicted = self._model.get_classifier()(features).argmax(dim=1).numpy()
        classes = len(CLASS_NAMES)
        return recognizability(labels, predicted, classes), diversity(features.numpy(), labels, classes)


def balanced(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first fifty images of each class, in turns."""
    rows = np.stack([np.flatnonzero(labels == label)[:IMAGES_PER_CLASS] for label in range(len(CLASS_NAMES))], axis=1)
    return images[rows.reshape(-1)], labels[rows.reshape(-1)]


def draw(generator: ImageGenerator, prompts: Sequence[str], guidance_scale: float, seed: int) -> Pixels:
    """One image for each prompt, with the noise that a study of this seed gives the sample at that position."""
    generator.prepare(list(dict.fromkeys(prompts)))
    parts = []
    for start in range(0, len(prompts), BATCH_SIZE):
        part = prompts[start : start + BATCH_SIZE]
        seeds = [sample_seed(seed, start + position) for position in range(len(part))]
        parts.append(generator.generate(part, seeds, guidance_scale))
    return np.concatenate(parts)


def read_arguments() -> argparse.Namespace:
    """What to measure and how to sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    parser.add_argument("--generator", default="sd", choices=("sd", "imagen", "muse"), help=f"as in the study {STUDY}")
    parser.add_argument("--model", type=Path, help="a generator's folder, instead of the embedded one")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="another setting, e.g. noise_level=200"
    )
    parser.add_argument("--guidance", type=float, nargs="+", default=GUIDANCE_SCALES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--grid", type=Path, help="PNG to write")
    return parser.parse_args()


def read_config(name: str, model: Path | None, changes: Sequence[str]) -> GeneratorConfig:
    """A generator of the study, of another folder or with other settings where that is asked for."""
    values: dict[str, Any] = yaml.safe_load(built_in_studies()[STUDY].read_text())["generators"][name]
    values |= {} if model is None else {"model_id": str(model)}
    values |= {key: yaml.safe_load(value) for key, _, value in (change.partition("=") for change in changes)}
    adapter: pydantic.TypeAdapter[GeneratorConfig] = pydantic.TypeAdapter(GeneratorConfig)
    return adapter.validate_python(values)


def main() -> None:
    """Prints the table and draws the grid: one row of twenty images for each setting."""
    arguments = read_arguments()
    data, judge = load_fashion(arguments.data), Judge()
    pool = slice(TRAIN_SPLITS["pool"].start, TRAIN_SPLITS["pool"].stop)
    images, labels = balanced(data.train_images[pool], data.train_labels[pool])
    for name, real in {"real pool": (images, labels), "real val": balanced(data.test_images, data.test_labels)}.items():
        print("{:24s} F1 {:.3f}  diversity {:.4f}".format(name, *judge.scores(*real)), flush=True)
    wanted = attributes(images, labels)
    prompts = {
        "class names": [CLASS_NAMES[label] for label in labels],
        "captions": [compose(int(t), int(s), int(p), int(c)) for (t, s, p), c in zip(wanted, labels, strict=True)],
    }
    generator = load_generator(read_config(arguments.generator, arguments.model, arguments.set))
    rows = [np.concatenate(list(images[:20]), axis=1)]
    for guidance_scale in arguments.guidance:
        for name, texts in prompts.items():
            drawn = [_measure(judge, generator, texts, guidance_scale, seed, labels) for seed in arguments.seeds]
            print(f"{name:12s} {guidance_scale:<4g} {_summary([scores for _, scores in drawn])}", flush=True)
            grey = np.concatenate([pictures for pictures, _ in drawn])
            if name == "captions":
                kept = (attributes(grey, np.tile(labels, len(drawn))) == np.tile(wanted, (len(drawn), 1))).mean(axis=0)
                print("    kept {:.2f} / {:.2f} / {:.2f}".format(*kept), flush=True)
            rows.append(np.concatenate(list(grey[:20]), axis=1))
    if arguments.grid:
        sheet = Image.fromarray(np.concatenate(rows))
        sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(arguments.grid)


def _measure(
    judge: Judge, generator: ImageGenerator, texts: list[str], guidance_scale: float, seed: int, labels: Any
) -> tuple[NDArray[np.uint8], dict[str, float]]:
    started = time.process_time()
    pixels = draw(generator, texts, guidance_scale, seed)
    seconds = time.process_time() - started
    size = float(np.mean([len(file) for file in encode_pixels(pixels, SAVED)]))
    grey = np.ascontiguousarray(pixels[..., 0])
    score, spread = judge.scores(grey, labels)
    return grey, {"F1": score, "diversity": spread, "images/s": len(texts) / seconds, "bytes": size}


def _summary(scores: list[dict[str, float]]) -> str:
    """Mean and, of the scores, the range over the seeds."""
    text = []
    for name in scores[0]:
        values = [score[name] for score in scores]
        spread = f" ({min(values):.3f} to {max(values):.3f})" if name in {"F1", "diversity"} else ""
        text.append(f"{name} {np.mean(values):.3f}{spread}" if spread else f"{name} {np.mean(values):.0f}")
    return "  ".join(text)


if __name__ == "__main__":
    main()
