"""Planted studies: tables in which every curve obeys a known power law with known noise."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from syn_ray.report.inputs import FIT_COLUMNS, RESULT_COLUMNS, CurveSamples, ReportInput

if TYPE_CHECKING:
    from collections.abc import Sequence

EVAL_SETS = ("val", "sketch", "rendition", "v2", "adversarial")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@dataclass(frozen=True)
class Planted:
    """A curve with a known law: loss = level (D / 1024) ** −k on the first evaluation set, harder on others."""

    name: str
    scaling_ability: float
    level: float
    guidance_scale: float | None = None
    prompts: str | None = None
    recognizability: float | None = None
    diversity: float | None = None

    @property
    def source(self) -> str:
        return "real" if self.prompts is None else "synthetic"


def plant_results(
    curves: Sequence[Planted], sizes: Sequence[int], seeds: int, noise: float, eval_sets: Sequence[str] = EVAL_SETS
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for curve in curves:
        shared = dict.fromkeys(RESULT_COLUMNS) | {
            "study": "planted",
            "curve": curve.name,
            "source": curve.source,
            "objective": "classify",
            "model": "vit_tiny",
        }
        if curve.source == "synthetic":
            shared |= {
                "generator": "stable_diffusion",
                "model_id": "embedded/sd",
                "guidance_scale": curve.guidance_scale,
                "native_guidance": curve.guidance_scale,
                "prompts": curve.prompts,
            }
        if curve.recognizability is not None:
            scores = {"recognizability": curve.recognizability, "diversity": curve.diversity}
            image = shared | {"dataset_size": 500, "eval_set": "images"}
            rows.extend(image | {"metric": metric, "value": value} for metric, value in scores.items())
        for size in sizes:
            for seed in range(seeds):
                steps = 300 + 175 * np.log2(size / 256)
                run = shared | {
                    "dataset_size": size,
                    "seed": seed,
                    "samples_seen": int(steps) * 64,
                    "unique_images": size,
                    "epochs": int(steps) * 64 / size,
                    "train_steps": int(steps),
                    "seconds": 20 + steps / 30,
                    "run": f"{curve.name}-{size}-{seed}",
                }
                for place, eval_set in enumerate(eval_sets):
                    harder = 1 + 0.55 * place
                    loss = (
                        curve.level
                        * harder
                        * (size / 1024) ** (-curve.scaling_ability / harder)
                        * np.exp(noise * rng.standard_normal())
                    )
                    for metric, value in (
                        ("loss", loss),
                        ("top1", float(np.exp(-loss * 0.45))),
                        ("top5", float(np.exp(-loss * 0.08))),
                    ):
                        rows.append(run | {"eval_set": eval_set, "metric": metric, "value": value})
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS))


def plant_fits(results: pd.DataFrame, reference_size: int, half_width: float, window: tuple[int, int]) -> pd.DataFrame:
    losses = results[results["metric"] == "loss"]
    rows = []
    for (curve, eval_set), group in losses.groupby(["curve", "eval_set"], sort=False):
        inside = group[group["dataset_size"].between(*window)]
        x, y = np.log(inside["dataset_size"].astype(float)), np.log(inside["value"].astype(float))
        slope, level = np.polyfit(x, y, 1)
        residual = y - (slope * x + level)
        measured = group.loc[group["dataset_size"] == reference_size, "value"]
        fitted = -(slope * np.log(reference_size) + level)
        r2 = 1 - float((residual**2).sum() / ((y - y.mean()) ** 2).sum())
        rows.append(
            (
                curve,
                eval_set,
                "power",
                -slope,
                -slope - half_width,
                -slope + half_width,
                fitted,
                -np.log(measured.mean()) if len(measured) else None,
                r2,
                *window,
            )
        )
    return pd.DataFrame(rows, columns=list(FIT_COLUMNS))


def plant_samples(curves: Sequence[Planted], columns: int = 6, pixels: int = 32) -> list[CurveSamples]:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:pixels, 0:pixels] / pixels - 0.5
    found = []
    for curve in curves:
        spread = 0.25 if curve.diversity is None else curve.diversity
        rows = []
        for place in range(len(CLASSES)):
            row = []
            for _ in range(columns):
                wide, tall, tone = (
                    0.18 + 0.02 * place + spread * 0.4 * rng.random(),
                    0.45 - 0.02 * place,
                    140 + 400 * spread * (rng.random() - 0.5),
                )
                shape = ((np.abs(x) / wide) ** 3 + (np.abs(y) / tall) ** (2 + place % 3) < 1) * np.clip(tone, 40, 255)
                buffer = io.BytesIO()
                Image.fromarray((shape + 6 * rng.random(shape.shape)).clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
                row.append(buffer.getvalue())
            rows.append(row)
        prompts = () if curve.prompts is None else tuple(f"a photo of a {name}" for name in CLASSES[:4])
        if curve.prompts == "captions":
            prompts = (
                "a dark slim ankle boot",
                "a light wide pullover, plain",
                "a bright narrow dress, striped",
                "a dark bag",
            )
        found.append(CurveSamples(curve.name, CLASSES, rows, prompts))
    return found


QUICK = (
    Planted("real", 0.178, 0.73, recognizability=0.916, diversity=0.2315),
    Planted("sd-captions-g1", 0.150, 0.81, 1.0, "captions", 0.756, 0.2030),
    Planted("sd-captions-g2", 0.120, 0.92, 2.0, "captions", 0.854, 0.1740),
    Planted("sd-captions-g7.5", -0.08, 1.40, 7.5, "captions", 0.883, 0.1591),
)
EFFECTS = (
    QUICK[0],
    Planted("sd-captions-g1", 0.160, 0.80, 1.0, "captions", 0.756, 0.2030),
    Planted("sd-captions-g1.5", 0.135, 0.86, 1.5, "captions", 0.815, 0.1842),
    Planted("sd-captions-g2", 0.120, 0.92, 2.0, "captions", 0.854, 0.1740),
    Planted("sd-captions-g4", 0.030, 1.15, 4.0, "captions", 0.877, 0.1615),
    Planted("sd-captions-g7.5", -0.06, 1.40, 7.5, "captions", 0.883, 0.1591),
    Planted("sd-classnames-g1", 0.130, 0.90, 1.0, "classnames", 0.772, 0.1934),
    Planted("sd-classnames-g1.5", 0.100, 0.97, 1.5, "classnames", 0.869, 0.1624),
    Planted("sd-classnames-g2", 0.080, 1.08, 2.0, "classnames", 0.905, 0.1459),
    Planted("sd-classnames-g4", -0.010, 1.45, 4.0, "classnames", 0.962, 0.1116),
    Planted("sd-classnames-g7.5", -0.10, 1.85, 7.5, "classnames", 0.975, 0.0881),
)


def plant_intervals(results: pd.DataFrame, share: float) -> pd.DataFrame:
    keys = ["curve", "eval_set", "metric", "dataset_size"]
    mean = results.assign(value=results["value"].astype(float)).groupby(keys, sort=False)["value"].mean().reset_index()
    return mean.assign(low=mean["value"] * (1 - share), high=mean["value"] * (1 + share)).drop(columns="value")


def make_report(
    curves: Sequence[Planted], sizes: Sequence[int], seeds: int, window: tuple[int, int], *, share: float | None
) -> ReportInput:
    results = plant_results(curves, sizes, seeds, noise=0.012)
    return ReportInput(
        study="quickstart" if seeds == 1 else "embedded-effects",
        question="How does a ViT trained on generated images scale against one trained on real images, and what does "
        "guidance do to it?",
        results=results,
        fits=plant_fits(results, 2048, 0.018, window),
        interval_method="95%, bootstrap over test images" + (" and seeds" if seeds > 1 else ""),
        reference_size=2048,
        intervals=None if share is None else plant_intervals(results, share),
        point_interval_method="" if share is None else "95%, bootstrap over images",
        eval_sets=EVAL_SETS,
        samples=plant_samples(curves),
        notes=(
            "Guidance grid for the embedded generator: paper: not given.",
            "The recipe was tuned on a part of the training pool that is set aside, never on val.",
        ),
        provenance={
            "started": "2025-01-01 10:00:00 UTC",
            "finished": "2025-01-01 10:08:21 UTC",
            "hardware": "2 CPU cores (x86_64), 8 GiB, no GPU",
            "git commit": "0123456789abcdef0123456789abcdef01234567",
            "seconds: generate": "143",
            "seconds: train": "291",
            "torch": "2.15.0",
            "ray": "2.60.0",
        },
        not_run=("Imagen and Muse: their weights are not public.",),
    )


@pytest.fixture(scope="session")
def quickstart() -> ReportInput:
    return make_report(QUICK, (256, 512, 1024, 2048), 1, (256, 2048), share=0.02)


@pytest.fixture(scope="session")
def effects() -> ReportInput:
    return make_report(EFFECTS, (256, 512, 1024, 2048, 4096, 8192), 3, (256, 4096), share=None)
