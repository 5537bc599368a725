"""Known answers, recovery, invariance and messages of fit_law."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from syn_ray.core.errors import FitError, UserError
from syn_ray.fit import FORMS, fit_law
from syn_ray.fit.forms import Form

SIZES: NDArray[np.float64] = 256.0 * 2.0 ** np.arange(7, dtype=np.float64)


def noisy(losses: NDArray[np.floating], sd: float, seed: int = 0) -> NDArray[np.floating]:
    return losses * np.exp(sd * np.random.default_rng(seed).standard_normal(losses.shape))


def test_known_answer_by_hand() -> None:
    """ln D = 0, 1, 2 and ln L = 1, 0, 0: slope -1/2, mean 1/3, squares left 1/6 of 2/3."""
    law = fit_law(np.exp([0.0, 1.0, 2.0]), np.exp([1.0, 0.0, 0.0]))
    assert law.scaling_ability == pytest.approx(0.5)
    assert law.performance_fitted == pytest.approx(1 / 6)  # the line at x = 2 is 1/3 - 1/2
    assert law.r2 == pytest.approx(1 - (1 / 6) / (2 / 3))
    assert law.residual_sd == pytest.approx(np.sqrt(1 / 6))
    assert law.degrees_of_freedom == 1
    half = 12.7062047 * np.sqrt(1 / 6) / np.sqrt(2)  # t(0.975, 1), by any table
    assert (law.low, law.high) == pytest.approx((0.5 - half, 0.5 + half))


def test_agrees_with_scipys_regression() -> None:
    sizes, losses = np.repeat(SIZES, 2), noisy(np.repeat(SIZES, 2) ** -0.3, 0.05)
    reference = stats.linregress(np.log(sizes), np.log(losses))
    law = fit_law(sizes, losses)
    half = stats.t.ppf(0.975, len(sizes) - 2) * reference.stderr
    assert law.scaling_ability == pytest.approx(-reference.slope)
    assert law.r2 == pytest.approx(reference.rvalue**2)
    assert (law.low, law.high) == pytest.approx((-reference.slope - half, -reference.slope + half))


def test_prediction_interval_of_a_new_run_is_the_textbooks() -> None:
    losses = noisy(SIZES**-0.3, 0.05)
    law = fit_law(SIZES, losses)
    x = np.log(SIZES)
    x0, dof = np.log(100_000.0), len(x) - 2
    scale = law.residual_sd * np.sqrt(1 + 1 / len(x) + (x0 - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    value, low, high = law.predict(100_000)
    assert np.log([low, high]) == pytest.approx(np.log(value) + stats.t.ppf([0.025, 0.975], dof) * scale)
    line_low, line_high = law.predict(100_000, of="line")[1:]
    assert low < line_low < value < line_high < high


def test_an_exact_power_law_is_recovered_exactly() -> None:
    law = fit_law(SIZES, 3.0 * SIZES**-0.21, reference_size=1_300_000)
    assert law.scaling_ability == pytest.approx(0.21, abs=1e-12)
    assert law.r2 == pytest.approx(1.0)
    assert law.performance_fitted == pytest.approx(-np.log(3.0 * 1_300_000**-0.21))
    assert law.high - law.low < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_power_offset_recovers_exponent_and_floor(seed: int) -> None:
    law = fit_law(SIZES, noisy(0.4 + 20.0 * SIZES**-0.5, 0.002, seed), form="power_offset")
    assert law.scaling_ability == pytest.approx(0.5, abs=0.05)  # noise of 0.2% leaves about 0.02
    assert law.parameters["floor"] == pytest.approx(0.4, abs=0.03)
    assert law.low < 0.5 < law.high
    assert law.predict(1e9)[0] == pytest.approx(0.4, abs=0.03)


def test_broken_recovers_both_slopes_and_the_bend() -> None:
    bend = np.log(2048.0)
    losses = np.exp(1.0 - 0.4 * np.minimum(np.log(SIZES), bend) - 0.1 * np.maximum(np.log(SIZES) - bend, 0))
    law = fit_law(SIZES, noisy(losses, 0.002), form="broken")
    assert law.scaling_ability == pytest.approx(0.4, abs=0.03)
    assert law.parameters["k_after"] == pytest.approx(0.1, abs=0.03)
    assert law.parameters["bend"] + np.log(SIZES).mean() == pytest.approx(bend, abs=0.3)


def test_m4_recovers_floor_ceiling_and_exponent() -> None:
    sizes = 8.0 * 2.0 ** np.arange(14)
    odds = (sizes / 500.0) ** -0.8
    law = fit_law(sizes, noisy((0.5 + 2.3 * odds) / (1 + odds), 0.002), form="m4")
    assert law.scaling_ability == pytest.approx(0.8, abs=0.05)
    assert law.parameters["floor"] == pytest.approx(0.5, abs=0.02)
    assert law.parameters["ceiling"] == pytest.approx(2.3, abs=0.1)


CURVED = 0.4 + 20.0 * SIZES**-0.5


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_the_unit_of_d_does_not_matter(form: Form) -> None:
    losses = noisy(CURVED if form.name != "m4" else (0.5 + 2.3 * 300 / SIZES) / (1 + 300 / SIZES), 0.005)
    images, millions = fit_law(SIZES, losses, form.name), fit_law(SIZES / 1e6, losses, form.name)
    assert millions.scaling_ability == pytest.approx(
        images.scaling_ability, rel=1e-4
    )  # the search stops at 1e-8 squares
    assert (millions.low, millions.high) == pytest.approx((images.low, images.high), rel=1e-3)
    assert millions.predict(0.05)[0] == pytest.approx(images.predict(50_000)[0], rel=1e-4)


def test_bits_or_nats_do_not_matter_to_k() -> None:
    losses = noisy(SIZES**-0.3, 0.05)
    assert fit_law(SIZES, losses / np.log(2)).scaling_ability == pytest.approx(fit_law(SIZES, losses).scaling_ability)


def test_the_order_of_runs_does_not_matter() -> None:
    sizes, losses = np.repeat(SIZES, 2), noisy(np.repeat(CURVED, 2), 0.01)
    order = np.random.default_rng(1).permutation(len(sizes))
    for form in ("power", "power_offset"):
        assert fit_law(sizes, losses, form).low == pytest.approx(fit_law(sizes[order], losses[order], form).low)


def test_the_interval_of_a_curved_form_covers_and_is_deterministic() -> None:
    hits = 0
    for seed in range(20):
        law = fit_law(np.repeat(SIZES, 2), noisy(np.repeat(CURVED, 2), 0.01, seed), "power_offset")
        hits += law.low <= 0.5 <= law.high
    assert hits >= 16  # of 20 at 95%: 15 or fewer has probability 0.003
    again = fit_law(np.repeat(SIZES, 2), noisy(np.repeat(CURVED, 2), 0.01, 19), "power_offset")
    assert (law.low, law.high) == (again.low, again.high)


def test_the_window_includes_its_ends_and_ignores_the_rest() -> None:
    bent = np.where(SIZES > 4096, 1.0, SIZES**-0.3)
    law = fit_law(SIZES, bent, window=(512, 4096))
    assert law.scaling_ability == pytest.approx(0.3)
    assert (law.window_min, law.window_max, law.reference_size) == (512, 4096, 4096)
    assert law.degrees_of_freedom == 2


def test_a_flat_curve_has_no_r2() -> None:
    law = fit_law(SIZES, np.full(7, 0.7))
    assert law.scaling_ability == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(law.r2)


def test_a_flat_curve_determines_no_floor() -> None:
    with pytest.raises(FitError, match="is not determined by these points"):
        fit_law(SIZES, noisy(np.full(7, 0.7), 0.0001) * np.array([1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]), "power_offset")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ([256, 512, 512], [1, 0.9, 0.8]),
            FitError,
            "the law 'power' needs 3 distinct dataset sizes, found 2 (256, 512); "
            "train more sizes or choose a form with fewer parameters",
        ),
        (
            ([256, 512, 1024, 2048], [1, 0.9, 0.8, 0.7], "power", (300, 1500)),
            FitError,
            "the law 'power' needs 3 distinct dataset sizes inside the window 300 to 1500, found 2 (512, 1024); "
            "train more sizes or choose a form with fewer parameters",
        ),
        (
            ([256, 512, 1024], [1, 0.9, 0.8], "power_offset"),
            FitError,
            "the law 'power_offset' needs 4 distinct dataset sizes, found 3 (256, 512, 1024); "
            "train more sizes or choose a form with fewer parameters",
        ),
        (
            ([256, 512, 1024], [1, float("nan"), 0.8]),
            UserError,
            "the loss at dataset size 512 is nan; a law needs positive losses in nats, "
            "and a missing one is never filled in",
        ),
        (([256, 512, 1024], [1, 0.9]), UserError, "3 dataset sizes but 2 losses; give one loss for each run"),
        (
            ([0, 512, 1024], [1, 0.9, 0.8]),
            UserError,
            "dataset_sizes[0] is 0; a dataset size is a positive number of images",
        ),
        (
            ([256, 512, 1024], [1, 0.9, 0.8], "powr"),
            UserError,
            "form is 'powr', which is no law; did you mean 'power'?",
        ),
        (
            ([256, 512, 1024], [1, 0.9, 0.8], "power", (1024, 256)),
            UserError,
            "window is (1024, 256); give the smallest and the largest dataset size of the fit",
        ),
        (
            ([256, 512, 1024], [1, 0.9, 0.8], "power", None, None, 95),
            UserError,
            "confidence is 95; give a fraction between 0 and 1, such as 0.95",
        ),
    ],
)
def test_messages(arguments, error, message) -> None:
    with pytest.raises(error) as raised:
        fit_law(*arguments)
    assert str(raised.value) == message


def test_prediction_at_no_size() -> None:
    with pytest.raises(UserError) as raised:
        fit_law(SIZES, CURVED).predict(-1)
    assert str(raised.value) == "dataset_size is -1; a dataset size is a positive number of images"
