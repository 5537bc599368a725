"""Measures an embedded generator with the embedded classifier: the tables in README.md beside this file.

Fifty images a class; macro F1, diversity, and the share of images that measure as their caption says.
Run: `python -m syn_ray.embedded.make.measure --generator imagen --grid grid.png`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from PIL import Image

from syn_ray.embedded import ASSETS, CLASS_NAMES, CLASSIFIER, asset_path
from syn_ray.embedded.captions import attributes, compose
from syn_ray.embedded.make.classifier import to_input
from syn_ray.embedded.make.draw import Options, draw, load_drawer
from syn_ray.embedded.make.idx import DEFAULT_DATA, TRAIN_SPLITS, load_fashion
from syn_ray.score.diversity import diversity
from syn_ray.score.recognizability import recognizability

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES_PER_CLASS = 50
GUIDANCE_SCALES = (1.0, 1.5, 2.0, 4.0, 7.5)


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


def read_arguments() -> argparse.Namespace:
    """What to measure and how to sample."""
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    parser.add_argument(
        "--generator", default="stable-diffusion", help="an embedded one: stable-diffusion, imagen, muse"
    )
    parser.add_argument("--model", type=Path, help="a generator's folder, instead of an embedded one")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--upscaler-steps", type=int, default=usual.upscaler_steps, help="imagen: second stage")
    parser.add_argument(
        "--noise-level", type=int, default=usual.noise_level, help="imagen: on the second stage's input"
    )
    parser.add_argument("--temperature", type=float, nargs=2, default=usual.temperature, help="muse: first, last step")
    parser.add_argument("--guidance", type=float, nargs="+", default=GUIDANCE_SCALES)
    parser.add_argument("--grid", type=Path, help="PNG to write")
    return parser.parse_args()


def main() -> None:
    """Prints the table and draws the grid: one row of twenty images for each setting."""
    arguments = read_arguments()
    data, judge = load_fashion(arguments.data), Judge()
    pool = slice(TRAIN_SPLITS["pool"].start, TRAIN_SPLITS["pool"].stop)
    real = {
        "real pool": balanced(data.train_images[pool], data.train_labels[pool]),
        "real val": balanced(data.test_images, data.test_labels),
    }
    for name, (images, labels) in real.items():
        print("{:24s} F1 {:.3f}  diversity {:.4f}".format(name, *judge.scores(images, labels)), flush=True)

    images, labels = real["real pool"]
    wanted = attributes(images, labels)
    prompts = {
        "class names": [CLASS_NAMES[label] for label in labels],
        "captions": [compose(int(t), int(s), int(p), int(c)) for (t, s, p), c in zip(wanted, labels, strict=True)],
    }
    options = Options(arguments.steps, arguments.upscaler_steps, arguments.noise_level, tuple(arguments.temperature))
    drawer = load_drawer(arguments.model or ASSETS / arguments.generator, options)
    rows = [np.concatenate(list(images[:20]), axis=1)]
    for guidance_scale in arguments.guidance:
        for name, texts in prompts.items():
            started = time.perf_counter()
            drawn = draw(drawer, texts, guidance_scale)
            rate = len(drawn) / (time.perf_counter() - started)
            shares = (attributes(drawn, labels) == wanted).mean(axis=0) if name == "captions" else np.full(3, np.nan)
            score, spread = judge.scores(drawn, labels)
            kept = "/".join(f"{share:.2f}" for share in shares)
            print(
                f"{name} {guidance_scale:<12} F1 {score:.3f}  diversity {spread:.4f}  kept {kept}  {rate:.0f} img/s",
                flush=True,
            )
            rows.append(np.concatenate(list(drawn[:20]), axis=1))
    if arguments.grid:
        sheet = Image.fromarray(np.concatenate(rows))
        sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(arguments.grid)


if __name__ == "__main__":
    main()
