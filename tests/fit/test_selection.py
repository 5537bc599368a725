"""The held-out size: what was foretold, and the form chosen by it."""

from __future__ import annotations

import numpy as np
import pytest

from syn_ray.core.errors import FitError
from syn_ray.fit import choose_form, fit_law, holdout_largest

SIZES = 256.0 * 2.0 ** np.arange(8)
POWER = 3.0 * SIZES**-0.3
SATURATING = 0.4 + 20.0 * SIZES**-0.6


def test_an_exact_law_foretells_exactly() -> None:
    held = holdout_largest(SIZES, POWER)
    assert held.dataset_size == SIZES[-1]
    assert held.predicted == pytest.approx(POWER[-1])
    assert held.error == pytest.approx(0.0, abs=1e-12)


def test_the_largest_size_was_not_seen() -> None:
    """A spoiled last point changes what was measured, and nothing of what was foretold."""
    spoiled = POWER.copy()
    spoiled[-1] *= 2
    held, clean = holdout_largest(SIZES, spoiled), holdout_largest(SIZES, POWER)
    assert held.predicted == clean.predicted
    assert held.error == pytest.approx(-np.log(2))
    assert not held.covered


def test_all_seeds_of_the_largest_size_are_held_out_and_averaged() -> None:
    sizes, losses = np.append(SIZES, SIZES[-1]), np.append(POWER, POWER[-1] * 1.21)
    held = holdout_largest(sizes, losses)
    assert held.measured == pytest.approx(POWER[-1] * 1.1)
    assert held.predicted == pytest.approx(POWER[-1])


def test_the_window_decides_what_is_largest() -> None:
    assert holdout_largest(SIZES, SATURATING, window=(256, 4096)).dataset_size == 4096


@pytest.mark.slow
def test_a_line_is_chosen_for_a_line_and_a_floor_for_a_floor() -> None:
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(8))
    assert choose_form(SIZES, POWER * noise).form == "power"
    choice = choose_form(SIZES, SATURATING * noise)
    assert choice.form == "power_offset"
    assert choice.law.parameters["floor"] == pytest.approx(0.4, abs=0.05)
    assert abs(choice.holdouts["power"].error) > 0.1


def test_forms_with_too_many_parameters_are_refused_with_the_reason() -> None:
    choice = choose_form(SIZES[:5], POWER[:5])
    assert choice.form == "power"
    assert choice.refused["broken"] == (
        "the law 'broken' needs 5 distinct dataset sizes, found 4 (256, 512, 1024, 2048); "
        "train more sizes or choose a form with fewer parameters"
    )
    assert choice.law.scaling_ability == fit_law(SIZES[:5], POWER[:5]).scaling_ability


def test_nothing_to_choose_from() -> None:
    with pytest.raises(FitError, match=r"^no form can be chosen: the law 'power' needs 3 distinct dataset sizes"):
        choose_form(SIZES[:3], POWER[:3])


def test_an_empty_window() -> None:
    with pytest.raises(FitError) as raised:
        holdout_largest(SIZES, POWER, window=(1, 2))
    assert str(raised.value) == "no dataset size lies inside the window (1, 2); nothing can be held out"
