"""The study's interval: it covers a planted truth, in pairs too, and is made of what it says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from syn_ray.core.errors import FitError, MissingResultError, UserError
from syn_ray.fit import BootstrappedLaw, bootstrap_law, compare, compare_forecast, fit_law

SIZES = 256.0 * 2.0 ** np.arange(5)
Floats = NDArray[np.float64]


def planted(
    rng: np.random.Generator, images: Floats, seeds: int, k: float, sd: float = 0.02
) -> tuple[Floats, Floats, list[int]]:
    """Runs whose loss over all possible images is exactly 0.8 (D / 4096)^-k, times the noise of training.

    Images differ in difficulty, in how much they gain from data, and in how each single run does on them.

    Args:
        images: [2, images] standard normal: difficulty and gain, shared by curves that share test images.
    """
    x = np.log(SIZES / SIZES[-1])
    sizes, ids = np.repeat(SIZES, seeds), list(range(seeds)) * len(SIZES)
    rows = []
    for at in np.repeat(x, seeds):
        spread = 1.3 * images[0] + 0.15 * at * images[1] + 0.7 * rng.standard_normal(images.shape[1])
        factor = np.exp(spread - (1.3**2 + (0.15 * at) ** 2 + 0.7**2) / 2)  # mean 1 over all possible images
        rows.append(0.8 * np.exp(-k * at + sd * rng.standard_normal()) * factor)
    return sizes, np.array(rows), ids


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_the_planted_truth(seeds: int) -> None:
    """A fast form of the coverage study; below 51 of 60 has probability 0.0007 at 95%."""
    hits = {"k": 0, "performance": 0, "loss": 0, "difference": 0}
    trials = 60
    for trial in range(trials):
        rng = np.random.default_rng([11, trial])
        images = rng.standard_normal((2, 1500))
        a = bootstrap_law(*planted(rng, images, seeds, k=0.25), replicates=300)
        b = bootstrap_law(*planted(rng, images, seeds, k=0.20), replicates=300)
        difference = compare(a, b)
        hits["k"] += a.low <= 0.25 <= a.high
        hits["performance"] += a.performance_low <= -np.log(0.8) <= a.performance_high
        hits["loss"] += a.loss(4096)[1] <= 0.8 <= a.loss(4096)[2]
        hits["difference"] += difference.low <= 0.05 <= difference.high
    assert min(hits.values()) >= 51, hits


def curve(k: float = 0.25, seeds: int = 3, images: int = 2000, seed: int = 0, noise: int = 1) -> BootstrappedLaw:
    shared = np.random.default_rng(seed).standard_normal((2, images))
    return bootstrap_law(*planted(np.random.default_rng(noise), shared, seeds, k), replicates=500)


def test_the_line_is_that_of_fit_law() -> None:
    shared = np.random.default_rng(0).standard_normal((2, 500))
    sizes, losses, seeds = planted(np.random.default_rng(1), shared, 3, 0.25)
    law = bootstrap_law(sizes, losses, seeds, replicates=100, reference_size=1000)
    plain = fit_law(sizes, losses.mean(axis=1), reference_size=1000)
    assert law.scaling_ability == pytest.approx(plain.scaling_ability)
    assert law.performance_fitted == pytest.approx(plain.performance_fitted)


def test_images_alone_by_hand() -> None:
    """No noise of training: the interval is that of a ratio of means over images, known in closed form."""
    rng = np.random.default_rng(0)
    easy, gains = rng.gamma(2.0, size=4000), rng.standard_normal(4000)
    sizes = np.exp([0.0, 1.0, 2.0])
    losses = np.stack([easy * np.exp(-x * (0.3 + 0.1 * gains)) for x in (0.0, 1.0, 2.0)])
    law = bootstrap_law(np.repeat(sizes, 2), np.repeat(losses, 2, axis=0), [0, 1] * 3)
    assert law.training_noise_sd == 0
    influence = (losses[0] / losses[0].mean() - losses[2] / losses[2].mean()) / 2  # k is (ln L0 - ln L2) / 2
    half = 1.96 * influence.std() / np.sqrt(4000)
    assert law.high - law.low == pytest.approx(2 * half, rel=0.07)  # 2,000 replicates: 2% at each end


def test_seeds_alone_by_hand() -> None:
    """All images alike, so only training differs; one deviation pattern at each size gives the standard error."""
    deviations = np.array([-0.02, 0.0, 0.02])  # standard deviation 0.02 exactly, by n - 1
    sizes = np.repeat(SIZES, 3)
    y = -0.25 * np.log(sizes) + np.tile(deviations, 5)
    law = bootstrap_law(sizes, np.exp(y)[:, None] * np.ones(50), [0, 1, 2] * 5, replicates=3000)
    assert law.training_noise == "seeds"
    assert law.training_noise_sd == pytest.approx(0.02)
    x = np.log(sizes) - np.log(sizes).mean()
    half = 2.2281 * 0.02 / np.sqrt(x @ x)  # t(0.975, 10 degrees of freedom)
    assert law.high - law.low == pytest.approx(2 * half, rel=0.07)


def test_one_seed_alone_is_students_t_on_the_residuals() -> None:
    y = -0.25 * np.log(SIZES) + np.array([0.01, -0.02, 0.015, -0.01, 0.005])
    law = bootstrap_law(SIZES, np.exp(y)[:, None] * np.ones(50), [0] * 5, replicates=3000)
    plain = fit_law(SIZES, np.exp(y))
    assert law.training_noise == "residuals"
    assert law.training_noise_sd == pytest.approx(plain.residual_sd)
    assert law.high - law.low == pytest.approx(plain.high - plain.low, rel=0.1)  # tails of t with 3 degrees


def test_one_seed_at_one_size_is_enough_to_take_the_residuals() -> None:
    shared = np.random.default_rng(0).standard_normal((2, 500))
    sizes, losses, seeds = planted(np.random.default_rng(1), shared, 2, 0.25)
    assert bootstrap_law(sizes[:-1], losses[:-1], seeds[:-1], replicates=50).training_noise == "residuals"


def test_a_pair_is_resolved_more_finely_than_its_halves_suggest() -> None:
    a, b = curve(0.25), curve(0.20, noise=2)
    pair = compare(a, b)
    assert pair.difference == pytest.approx(a.scaling_ability - b.scaling_ability)
    assert pair.high - pair.low < np.hypot(a.high - a.low, b.high - b.low)
    assert pair.resolved == (pair.low > 0 or pair.high < 0)


def test_the_noise_of_training_does_not_cancel_between_curves() -> None:
    """Each curve draws its own: with one stream for both, equal noise would vanish from the difference."""
    ones = np.ones(50)
    y = np.repeat(-0.25 * np.log(SIZES), 3) + np.tile([-0.02, 0.0, 0.02], 5)
    sizes, seeds = np.repeat(SIZES, 3), [0, 1, 2] * 5
    a = bootstrap_law(sizes, np.exp(y)[:, None] * ones, seeds)
    b = bootstrap_law(sizes, np.exp(y + 0.1)[:, None] * ones, seeds)
    pair = compare(a, b)
    assert pair.high - pair.low == pytest.approx(np.sqrt(2) * (a.high - a.low), rel=0.1)


def test_a_curve_does_not_differ_from_itself() -> None:
    a = curve()
    assert compare(a, a) == compare(a, curve())
    assert (compare(a, a).difference, compare(a, a).resolved) == (0.0, False)


def test_loss_and_performance_can_be_compared() -> None:
    a, b = curve(0.25), curve(0.20, noise=2)
    low_d = compare(a, b, "loss", 256)
    assert low_d.difference == pytest.approx(np.log(a.loss(256)[0] / b.loss(256)[0]))
    assert low_d.resolved  # planted: 0.05 x ln 16 = 0.14 apart
    assert compare(a, b, "performance_fitted").difference == pytest.approx(a.performance_fitted - b.performance_fitted)


def test_units_order_and_window() -> None:
    shared = np.random.default_rng(0).standard_normal((2, 500))
    sizes, losses, seeds = planted(np.random.default_rng(1), shared, 2, 0.25)
    law = bootstrap_law(sizes, losses, seeds, replicates=200)
    millions = bootstrap_law(sizes / 1e6, losses, seeds, replicates=200)
    assert (millions.low, millions.high) == pytest.approx((law.low, law.high))
    inner = bootstrap_law(sizes, losses, seeds, window=(256, 1024), replicates=200)
    assert (inner.window_min, inner.window_max, inner.reference_size) == (256, 1024, 1024)
    assert list(inner.losses) == SIZES.tolist()  # measured losses stay comparable outside the window
    assert inner.scaling_ability == pytest.approx(fit_law(sizes, losses.mean(1), window=(256, 1024)).scaling_ability)


def test_a_forecast_is_that_of_the_line_through_the_other_sizes() -> None:
    a = curve()
    sizes = list(a.losses)
    line = fit_law(sizes[:-1], [a.losses[size] for size in sizes[:-1]])
    forecast = compare_forecast(a)
    assert forecast.difference == pytest.approx(np.log(line.predict(sizes[-1])[0] / a.losses[sizes[-1]]))
    assert forecast.low < forecast.difference < forecast.high


def test_the_error_of_a_forecast_by_hand() -> None:
    """Only training differs, by one pattern of deviations at each size; the error is a sum of five means of three."""
    y = np.repeat(-0.25 * np.log(SIZES), 3) + np.tile([-0.02, 0.0, 0.02], 5)
    law = bootstrap_law(np.repeat(SIZES, 3), np.exp(y)[:, None] * np.ones(50), [0, 1, 2] * 5, replicates=3000)
    forecast = compare_forecast(law)
    assert forecast.difference == pytest.approx(0.0, abs=1e-12)
    weights = np.array([-0.5, 0.0, 0.5, 1.0, -1.0])  # of the line through four equally spaced sizes at the fifth
    half = 2.2281 * 0.02 / np.sqrt(3) * np.sqrt(weights @ weights)  # t(0.975, 10 degrees of freedom)
    assert forecast.high - forecast.low == pytest.approx(2 * half, rel=0.07)
    assert not forecast.resolved


def test_straight_lines_are_seldom_said_to_bend_and_bends_are_found() -> None:
    straight = bent = 0
    for trial in range(40):
        images = np.random.default_rng([12, trial]).standard_normal((2, 1500))
        sizes, losses, ids = planted(np.random.default_rng([13, trial]), images, 3, 0.25)
        straight += compare_forecast(bootstrap_law(sizes, losses, ids, replicates=300)).resolved
        # With a floor of 0.8 under a steep law the line through the four smaller sizes is 11% too low at the largest.
        sizes, losses, ids = planted(np.random.default_rng([13, trial]), images, 3, 0.7)
        bent += compare_forecast(bootstrap_law(sizes, losses + 0.8, ids, replicates=300)).resolved
    assert straight <= 6  # of 40; more has probability 0.003 at 5%
    assert bent >= 36


def test_a_forecast_needs_three_sizes_beside_it() -> None:
    shared = np.random.default_rng(0).standard_normal((2, 500))
    sizes, losses, seeds = planted(np.random.default_rng(1), shared, 2, 0.25)
    law = bootstrap_law(sizes, losses, seeds, window=(256, 1024), replicates=50)
    with pytest.raises(FitError) as raised:
        compare_forecast(law)
    assert str(raised.value) == "a line needs 3 dataset sizes beside the one it is to foretell, found 2"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"seeds": [0, 0, 0, 0]},
            UserError,
            "5 dataset sizes, 4 seeds, per_image_losses of shape (5, 3); give [runs], [runs] and [runs, images]",
        ),
        (
            {"dataset_sizes": [1, 2, 2, 3, 4]},
            UserError,
            "dataset size 2 with seed 0 is given twice; a run counts once",
        ),
        (
            {"per_image_losses": [[1.0, 1.0, 1.0]] * 4 + [[1.0, float("nan"), 1.0]]},
            UserError,
            "the loss of test image 1 at dataset size 5, seed 0, is nan; every image needs a finite cross-entropy",
        ),
        (
            {"per_image_losses": [[1.0, 1.0, 1.0]] * 4 + [[0.0, 0.0, 0.0]]},
            FitError,
            "all losses at dataset size 5, seed 0, are 0; ln loss does not exist",
        ),
        (
            {"window": (1, 2)},
            FitError,
            "the law 'power' needs 3 distinct dataset sizes inside the window 1 to 2, found 2 (1, 2); "
            "train more sizes or choose a form with fewer parameters",
        ),
    ],
)
def test_messages(change, error, message) -> None:
    arguments = {"dataset_sizes": [1, 2, 3, 4, 5], "per_image_losses": np.ones((5, 3)), "seeds": [0] * 5, **change}
    with pytest.raises(error) as raised:
        bootstrap_law(**arguments)
    assert str(raised.value) == message


def test_messages_of_comparisons() -> None:
    a, b = curve(), curve(images=1000)
    with pytest.raises(UserError) as raised:
        compare(a, b)
    assert str(raised.value) == (
        "these curves cannot be compared in pairs: (images, rng_seed, replicates, confidence) are (2000, 0, 500, 0.95) "
        "and (1000, 0, 500, 0.95); bootstrap both on the same test images with the same settings"
    )
    with pytest.raises(MissingResultError) as missing:
        compare(a, a, "loss", 300)
    assert str(missing.value) == "no loss was measured at dataset size 300; there are 256, 512, 1024, 2048, 4096"


def test_pooled_sets_count_alike_whatever_their_sizes() -> None:
    """Three sets of 40, 400 and 1,000 images: the law of the mean of their means, against the same by hand."""
    rng = np.random.default_rng(5)
    counts = [40, 400, 1000]
    parts = [planted(np.random.default_rng(9), rng.standard_normal((2, n)), 1, k=0.2)[1] * (1 + n) for n in counts]
    law = bootstrap_law(SIZES, np.concatenate(parts, axis=1), [0] * 5, replicates=400, sets=counts)
    means = np.mean([part.mean(axis=1) for part in parts], axis=0)
    assert law.scaling_ability == pytest.approx(fit_law(SIZES, means).scaling_ability)
    assert list(law.losses.values()) == pytest.approx(means.tolist())
    assert law.low < law.scaling_ability < law.high
    one = bootstrap_law(SIZES, parts[2], [0] * 5, replicates=400, sets=[1000])
    assert one == bootstrap_law(SIZES, parts[2], [0] * 5, replicates=400)
    with pytest.raises(UserError, match=r"^sets of \[40, 400\] images are not the 1440 images of per_image_losses$"):
        bootstrap_law(SIZES, np.concatenate(parts, axis=1), [0] * 5, sets=[40, 400])
