"""The study's own interval of a power law: from test images and training seeds together.

Two things would come out differently if a study were done again. Another sample of test images moves all points of a
curve together and tilts it, which no scatter around the line shows. Another training seed moves each point alone. Every
replicate here redoes both (`resample`), so two curves that share their test images can be compared replicate by
replicate (`compare`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from syn_ray.core.errors import FitError, MissingResultError, UserError
from syn_ray.fit.forms import Floats, line
from syn_ray.fit.points import check_sizes, inside, require_distinct
from syn_ray.fit.resample import (
    group_runs,
    lines_through,
    mean_losses,
    mean_of_groups,
    resampled_means,
    residual_noise,
    seed_noise,
)

Mask = NDArray[np.bool_]
Quantity = Literal["scaling_ability", "performance_fitted", "loss"]


@dataclass(frozen=True)
class BootstrappedLaw:
    """A power law with its interval and the replicates behind it.

    Args:
        scaling_ability: k of the least-squares line through the measured points.
        low: Lower end of its interval.
        high: Upper end of it.
        performance_fitted: -ln loss of the line at `reference_size`.
        performance_low: Lower end of its interval.
        performance_high: Upper end of it.
        reference_size: D at which the performance is stated.
        window_min: Smallest D used by the line.
        window_max: Largest D used by the line.
        confidence: Of all intervals.
        training_noise: Where the noise of training was taken from: `seeds`, or `residuals` around the line where a size
            was trained once.
        training_noise_sd: Its standard deviation for one run, in ln loss (0.02 is 2%).
        images: Number of test images.
        losses: Measured loss at each distinct D, mean over seeds, nats.
    """

    scaling_ability: float
    low: float
    high: float
    performance_fitted: float
    performance_low: float
    performance_high: float
    reference_size: float
    window_min: float
    window_max: float
    confidence: float
    training_noise: Literal["seeds", "residuals"]
    training_noise_sd: float
    images: int
    losses: dict[float, float]
    _rng_seed: int = field(repr=False)
    _k: Floats = field(repr=False, compare=False)
    _performance: Floats = field(repr=False, compare=False)
    _ln_loss: Floats = field(repr=False, compare=False)
    """[replicates, distinct sizes]"""

    @property
    def pairing(self) -> tuple[int, int, int, float]:
        """What two curves must share to be compared: `(images, rng_seed, replicates, confidence)`."""
        return self.images, self._rng_seed, len(self._k), self.confidence

    def loss(self, dataset_size: float) -> tuple[float, float, float]:
        """Measured loss at one trained size, mean over seeds, with its interval: `(value, low, high)` in nats."""
        low, high = ends(self.replicates("loss", dataset_size), self.confidence)
        return self.losses[dataset_size], float(np.exp(low)), float(np.exp(high))

    def replicates(self, quantity: Quantity, dataset_size: float | None = None) -> Floats:
        """One value for each replicate; of `loss` its logarithm, at one trained size.

        Raises:
            MissingResultError: Nothing was trained at that size.
        """
        if quantity == "scaling_ability":
            return self._k
        if quantity == "performance_fitted":
            return self._performance
        if dataset_size not in self.losses:
            known = ", ".join(f"{size:g}" for size in self.losses)
            raise MissingResultError(f"no loss was measured at dataset size {dataset_size}; there are {known}")
        return np.asarray(self._ln_loss[:, list(self.losses).index(dataset_size)])


def bootstrap_law(
    dataset_sizes: ArrayLike,
    per_image_losses: ArrayLike,
    seeds: Sequence[int],
    window: Sequence[float] | None = None,
    reference_size: float | None = None,
    confidence: float = 0.95,
    replicates: int = 2000,
    rng_seed: int = 0,
    sets: Sequence[int] | None = None,
) -> BootstrappedLaw:
    """The power law of a curve, with an interval from test images and training noise.

    Each replicate draws the test images anew, once for all runs (and for all curves with as many images), and adds
    training noise: deviations from the mean of a size's seeds, drawn from all sizes together and enlarged by
    sqrt(n/(n-1)), because n deviations from their own mean are too small by that factor. Where a size has one seed
    only, the noise is drawn from the scatter of the runs around the line. One chi-square draw for each replicate widens
    the interval to Student's t, for the noise itself is known from few runs.

    Coverage of 95% intervals in simulated studies with a planted law (400 each; 2% training noise, 4 sizes and 5,000
    test images; per-image losses as uneven as a classifier's), against Student's t on the mean losses alone:

    | seeds | k | k by t alone | performance | loss at the largest D | difference of two k |
    |---|---|---|---|---|---|
    | 1 | 95.0% | 93.0% | 96.3% | 96.5% | 96.8% |
    | 3 | 97.0% | 92.5% | 95.0% | 95.5% | 98.3% |

    With 6 sizes and 10,000 images: k 95.3% with 1 seed at 2% training noise, 97.0% at 0.5%; 93.6% with 3 seeds at 1%
    (t alone: 84.8%). Training noise is pooled over the sizes even where it differs between them: falling from 6% to
    1.5%, it makes intervals of the loss cover nearly always at the largest D and about 89% at the smallest.

    Args:
        dataset_sizes: [runs] D of each run.
        per_image_losses: [runs, images] cross-entropies in nats, the images in the same order for all runs.
        seeds: [runs] training seed of each run.
        window: Smallest and largest D of the line, both included; all when None.
        reference_size: D at which the performance is stated; the largest D of the line when None.
        confidence: Of the intervals.
        replicates: Number of them; the ends of an interval move by about 2% of its width at 2,000.
        rng_seed: Curves can be compared in pairs if they share it, `replicates` and their images.
        sets: Images of each of several test sets, which stand side by side in `per_image_losses` and are pooled: the
            loss is the mean of their mean losses. One set when None.

    Raises:
        UserError: Shapes that do not fit, a loss that is no finite number below zero, a run given twice.
        FitError: Fewer than three distinct sizes inside the window.
    """
    sizes, losses = _check(dataset_sizes, per_image_losses, seeds)
    sets = _check_sets(sets, losses.shape[1])
    chosen = inside(sizes, window)
    require_distinct(sizes[chosen], window, 3, "the law 'power'")
    x, ln_loss, groups = np.log(sizes), np.log(mean_losses(losses, sets)), group_runs(sizes)
    level, k = line(x[chosen], ln_loss[chosen])
    reference = float(sizes[chosen].max()) if reference_size is None else float(reference_size)
    drawn, source, sd = _redone(x, losses, sets, chosen, replicates, rng_seed)
    ks, levels = lines_through(x[chosen], drawn[:, chosen])
    performance = ks * np.log(reference) - levels
    (low, high), (worst, best) = ends(ks, confidence), ends(performance, confidence)
    means = np.exp(mean_of_groups(ln_loss[None], groups)[0])
    return BootstrappedLaw(
        scaling_ability=k,
        low=low,
        high=high,
        performance_fitted=float(k * np.log(reference) - level),
        performance_low=worst,
        performance_high=best,
        reference_size=reference,
        window_min=float(sizes[chosen].min()),
        window_max=float(sizes[chosen].max()),
        confidence=confidence,
        training_noise=source,
        training_noise_sd=sd,
        images=losses.shape[1],
        losses=dict(zip(np.unique(sizes).tolist(), means.tolist(), strict=True)),
        _rng_seed=rng_seed,
        _k=ks,
        _performance=performance,
        _ln_loss=mean_of_groups(drawn, groups),
    )


def _redone(
    x: Floats, losses: Floats, sets: Sequence[int], chosen: Mask, replicates: int, rng_seed: int
) -> tuple[Floats, Literal["seeds", "residuals"], float]:
    """The study done again: ln losses [replicates, runs], where the noise of training came from, and its size."""
    ln_loss, groups = np.log(mean_losses(losses, sets)), group_runs(x)
    drawn = np.log(resampled_means(losses, sets, replicates, rng_seed))
    # A stream of its own for each curve: noise shared between curves would vanish from their difference.
    rng = np.random.default_rng([rng_seed, zlib.crc32(np.ascontiguousarray(losses).tobytes())])
    source: Literal["seeds", "residuals"] = "seeds" if (np.bincount(groups) > 1).all() else "residuals"
    if source == "seeds":
        noise, sd = seed_noise(ln_loss, drawn, groups, rng)
        # The deviations of the seeds are redrawn, so the measured ones must not stay in as well.
        drawn = mean_of_groups(drawn, groups)[:, groups]
    else:
        noise, sd = residual_noise(x, ln_loss, drawn, chosen, rng)
    return drawn + noise, source, sd


def _check(dataset_sizes: ArrayLike, per_image_losses: ArrayLike, seeds: Sequence[int]) -> tuple[Floats, Floats]:
    sizes = check_sizes(dataset_sizes)
    losses = np.asarray(per_image_losses, dtype=np.float64)
    if losses.ndim != 2 or len(losses) != len(sizes) or len(seeds) != len(sizes):
        raise UserError(
            f"{len(sizes)} dataset sizes, {len(seeds)} seeds, per_image_losses of shape {losses.shape}; "
            "give [runs], [runs] and [runs, images]"
        )
    runs = [(float(size), int(seed)) for size, seed in zip(sizes, seeds, strict=True)]
    for position, (size, seed) in enumerate(runs):
        if (size, seed) in runs[:position]:
            raise UserError(f"dataset size {size:g} with seed {seed} is given twice; a run counts once")
        bad = ~(np.isfinite(losses[position]) & (losses[position] >= 0))
        if bad.any():
            where = int(np.flatnonzero(bad)[0])
            raise UserError(
                f"the loss of test image {where} at dataset size {size:g}, seed {seed}, is "
                f"{losses[position, where]:g}; every image needs a finite cross-entropy"
            )
        if not losses[position].any():
            raise FitError(f"all losses at dataset size {size:g}, seed {seed}, are 0; ln loss does not exist")
    return sizes, losses


def _check_sets(sets: Sequence[int] | None, images: int) -> Sequence[int]:
    if sets is None:
        return [images]
    if sum(sets) != images or min(sets) < 1:
        raise UserError(f"sets of {list(sets)} images are not the {images} images of per_image_losses")
    return sets


def ends(values: Floats, confidence: float) -> tuple[float, float]:
    """Ends of the interval that leaves out equal shares of the replicates on either side."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
