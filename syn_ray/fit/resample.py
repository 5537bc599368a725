"""What would come out differently if a study were done again: other test images, other training noise.

The parts of `intervals.bootstrap_law`; everything is vectorised over replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from syn_ray.fit.forms import Floats

IMAGE_NOISE_SHARE = 0.5
"""How much of the scatter that images cause is taken out of the noise of training, where it would count twice.

Found by the coverage study: with 0 intervals of k cover 93 to 98% and differences 96 to 100%; with 1 intervals of k
cover 91 to 95%, as the part to take out is itself known from few runs.
"""


def group_runs(sizes: Floats) -> NDArray[np.intp]:
    """Position of each run's size among the distinct ones."""
    return np.asarray(np.unique(sizes, return_inverse=True)[1], dtype=np.intp)


def mean_of_groups(values: Floats, groups: NDArray[np.intp]) -> Floats:
    """Means over the seeds of each size: [replicates, runs] to [replicates, distinct sizes]."""
    member = (groups[:, None] == np.arange(groups.max() + 1)).astype(np.float64)
    return np.asarray(values @ (member / member.sum(axis=0)))


def split_sets(losses: Floats, sets: Sequence[int]) -> list[Floats]:
    """The columns of each test set, [runs, images of the set] each."""
    return np.split(losses, np.cumsum(sets)[:-1], axis=1)


def mean_losses(losses: Floats, sets: Sequence[int]) -> Floats:
    """The mean loss of each run, every set counting alike: [runs]."""
    return np.asarray(np.mean([part.mean(axis=1) for part in split_sets(losses, sets)], axis=0))


@lru_cache(maxsize=1)
def _image_counts(images: int, replicates: int, rng_seed: int, place: int) -> NDArray[np.uint8]:
    """How often each image is drawn, [replicates, images]: one matrix for all curves of an evaluation set.

    Bytes, because 2,000 x 10,000 doubles would be 160 MB; a count above 255 has probability 0.
    """
    rng = np.random.default_rng([rng_seed, place])
    counts = np.empty((replicates, images), dtype=np.uint8)
    for row in counts:
        row[:] = np.minimum(np.bincount(rng.integers(images, size=images), minlength=images), 255)
    return counts


def resampled_means(losses: Floats, sets: Sequence[int], replicates: int, rng_seed: int) -> Floats:
    """Mean losses over resampled images, [replicates, runs]; the images of each set are drawn anew within it."""
    parts = [
        _resampled_means(part, _image_counts(part.shape[1], replicates, rng_seed, place))
        for place, part in enumerate(split_sets(losses, sets))
    ]
    return np.asarray(np.mean(parts, axis=0))


def _resampled_means(losses: Floats, counts: NDArray[np.uint8]) -> Floats:
    replicates = len(counts)
    blocks: list[Floats] = [
        counts[start : start + 250].astype(np.float64) @ losses.T for start in range(0, replicates, 250)
    ]
    return np.asarray(np.concatenate(blocks) / losses.shape[1])


def seed_noise(
    ln_loss: Floats, drawn: Floats, groups: NDArray[np.intp], rng: np.random.Generator
) -> tuple[Floats, float]:
    """Noise of training [replicates, runs] and its standard deviation, from the seeds of all sizes together."""
    runs_at = np.bincount(groups)[groups]
    dof = int(len(groups) - groups.max() - 1)
    deviations = ln_loss - mean_of_groups(ln_loss[None], groups)[0, groups]
    redrawn = drawn - mean_of_groups(drawn, groups)[:, groups]
    sd = _training_sd(deviations, redrawn, dof)
    scale = sd / np.sqrt(deviations @ deviations / dof) if sd else 0.0
    picks = rng.integers(len(deviations), size=drawn.shape)
    noise = (deviations * np.sqrt(runs_at / (runs_at - 1)) * scale)[picks]
    return noise * np.sqrt(dof / rng.chisquare(dof, (len(drawn), 1))), sd


def residual_noise(
    x: Floats, ln_loss: Floats, drawn: Floats, chosen: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Floats, float]:
    """Noise of training [replicates, runs] and its standard deviation, from the scatter around the line."""
    dof = int(chosen.sum()) - 2
    sd = _training_sd(_residuals(x[chosen], ln_loss[None, chosen])[0], _residuals(x[chosen], drawn[:, chosen]), dof)
    return sd * rng.standard_normal(drawn.shape) * np.sqrt(dof / rng.chisquare(dof, (len(drawn), 1))), sd


def _training_sd(deviations: Floats, redrawn: Floats, dof: int) -> float:
    """Standard deviation of training noise in ln loss: of the deviations, less what the sample of images put there.

    Each run errs on images of its own, so a finite sample of images scatters runs apart. The replicates of the images
    hold that part already, and show how large it is.
    """
    of_images = float(redrawn.var(axis=0).sum() / dof)
    variance = float(deviations @ deviations) / dof - IMAGE_NOISE_SHARE * of_images
    return float(np.sqrt(max(variance, 0.0)))


def lines_through(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The k and the level at x = 0 of the least-squares line of each replicate; y is [replicates, runs]."""
    centred = x - x.mean()
    slopes = y @ centred / (centred @ centred)
    return -slopes, y.mean(axis=1) - slopes * x.mean()


def _residuals(x: Floats, y: Floats) -> Floats:
    """What the least-squares line of each replicate leaves, [replicates, runs]."""
    k, level = lines_through(x, y)
    return np.asarray(y - level[:, None] + k[:, None] * x)
