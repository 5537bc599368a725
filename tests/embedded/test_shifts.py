from __future__ import annotations

import numpy as np

from syn_ray.embedded.shifts import SHIFTS, rendition, sketch


def test_a_flat_image_has_no_lines():
    assert not sketch(np.full((2, 32, 32), 90, np.uint8)).any()


def test_a_step_is_one_line_as_bright_as_the_step_is_high():
    image = np.zeros((1, 32, 32), np.uint8)
    image[:, :, 16:] = 50
    drawn = sketch(image)
    assert (drawn[:, :, 15:17] == 80).all()  # 1.6 times the step of 50
    assert not drawn[:, :, :15].any()
    assert not drawn[:, :, 17:].any()


def test_strong_edges_stay_in_range():
    image = np.zeros((1, 32, 32), np.uint8)
    image[:, 8:24, 8:24] = 255
    assert sketch(image).max() == 255


def test_renditions_have_four_levels_and_are_inverted():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    made = rendition(ramp).reshape(-1)
    assert set(made.tolist()) == {0, 85, 170, 255}
    assert not made[:13].any()  # the background stays black
    assert made[13] == 255
    assert made[255] == 0
    assert (np.diff(made[13:].astype(int)) <= 0).all()


def test_an_image_is_changed_alike_in_any_company():
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32)).astype(np.uint8)
    for rule in SHIFTS.values():
        assert (rule(images)[3:4] == rule(images[3:4])).all()
        assert rule(images).dtype == np.uint8
