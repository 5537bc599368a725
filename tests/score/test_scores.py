"""Scores with known answers: perfect sets, shuffled labels, mode collapse."""

import numpy as np
import pytest

from syn_ray.core.errors import SynRayError
from syn_ray.score.diversity import diversity, diversity_per_class
from syn_ray.score.recognizability import f1_per_class, recognizability

LABELS = np.arange(1000) % 10
RNG = np.random.default_rng(0)


def test_a_perfect_set_is_recognized_whole():
    assert recognizability(LABELS, LABELS, 10) == 1.0


def test_shuffled_labels_are_recognized_at_chance():
    assert abs(recognizability(LABELS, RNG.permutation(LABELS), 10) - 0.1) < 0.03


def test_one_class_for_everything_scores_its_own_f1_only():
    f1 = f1_per_class(LABELS, np.zeros_like(LABELS), 10)
    assert f1.tolist() == [pytest.approx(2 * 100 / (100 + 1000)), *[0.0] * 9]


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    predicted = np.where(RNG.random(1000) < 0.7, LABELS, RNG.integers(0, 10, 1000))
    right = [np.sum((predicted == label) & (label == LABELS)) for label in range(10)]
    precision = [right[label] / np.sum(predicted == label) for label in range(10)]
    recall = [right[label] / np.sum(label == LABELS) for label in range(10)]
    expected = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    assert f1_per_class(LABELS, predicted, 10).tolist() == pytest.approx(expected)
    assert recognizability(LABELS, predicted, 10) == pytest.approx(np.mean(expected))


def test_a_class_that_nobody_asked_for_or_saw_counts_zero():
    assert f1_per_class([0, 0], [0, 0], 2).tolist() == [1.0, 0.0]


def test_diversity_is_the_spread_within_a_class():
    features = RNG.normal(size=(1000, 64)) * 3 + LABELS[:, None] * 100  # far classes add nothing
    assert diversity(features, LABELS, 10) == pytest.approx(3, rel=0.02)


def test_a_collapsed_class_has_none():
    features = RNG.normal(size=(1000, 8))
    features[LABELS == 4] = 1.5
    spread = diversity_per_class(features, LABELS, 10)
    assert spread[4] == 0
    assert spread.argmin() == 4


def test_the_standard_deviation_is_unbiased():
    assert diversity(np.array([[0.0, 0.0], [2.0, 4.0]]), np.array([0, 0]), 1) == pytest.approx((2**0.5 + 8**0.5) / 2)


def test_a_class_with_one_image_has_no_diversity():
    with pytest.raises(SynRayError, match="class 1 has 1 images; it takes at least 2"):
        diversity(np.zeros((3, 2)), np.array([0, 0, 1]), 2)
