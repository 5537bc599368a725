from __future__ import annotations

import numpy as np
import pytest

from syn_ray.embedded import CLASS_NAMES
from syn_ray.embedded.captions import PATTERNS, SHAPES, TONES, attributes, compose, make_captions, measure


def box(width: int, height: int, level: int) -> np.ndarray:
    """One image with an evenly grey box in its middle."""
    image = np.zeros((1, 32, 32), np.uint8)
    image[:, 16 - height // 2 : 16 + height // 2, 16 - width // 2 : 16 + width // 2] = level
    return image


def test_a_plain_square_measures_as_drawn():
    tone, shape, pattern = measure(box(16, 16, 100))[0]
    assert (tone, shape, pattern) == (100, 1, 0)


def test_shape_is_width_over_height():
    assert measure(box(8, 24, 100))[0, 1] < 0.4
    assert measure(box(24, 8, 100))[0, 1] > 2.5


def test_halves_of_two_levels_are_a_pattern():
    image = box(16, 16, 50)
    image[:, :16][image[:, :16] > 0] = 150
    assert measure(image)[0, 2] == pytest.approx(50)


def test_an_empty_image_has_a_caption():
    assert np.isfinite(measure(np.zeros((1, 32, 32), np.uint8))).all()


@pytest.mark.parametrize("label", range(len(CLASS_NAMES)))
def test_the_words_follow_the_image_and_the_class_is_named(label: int):
    darkest, brightest = make_captions(np.concatenate([box(16, 16, 20), box(16, 16, 250)]), [label, label])
    assert darkest.startswith("a dark ")
    assert brightest.startswith("a bright ")
    assert darkest.endswith(f" plain {CLASS_NAMES[label]}")


def test_the_same_image_is_told_apart_by_its_class():
    """A box of the same proportions is wide for a trouser and slim for a sneaker."""
    trouser, sneaker = make_captions(np.repeat(box(16, 16, 100), 2, axis=0), [1, 7])
    assert (trouser, sneaker) == ("a dark wide plain trouser", "a dark slim plain sneaker")


def test_an_image_keeps_its_caption_in_any_company():
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32)).astype(np.uint8)
    labels = list(range(10)) * 2
    together = make_captions(images, labels)
    assert together == [make_captions(images[i : i + 1], labels[i : i + 1])[0] for i in range(20)]


def test_attributes_and_words_agree():
    images = np.random.default_rng(1).integers(0, 256, (10, 32, 32)).astype(np.uint8)
    words = [compose(t, s, p, label) for label, (t, s, p) in enumerate(attributes(images, range(10)).tolist())]
    assert words == make_captions(images, list(range(10)))


def test_every_caption_is_a_different_one():
    every = {
        compose(t, s, p, c)
        for t in range(len(TONES))
        for s in range(len(SHAPES))
        for p in range(len(PATTERNS))
        for c in range(len(CLASS_NAMES))
    }
    assert len(every) == 180
