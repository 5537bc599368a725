"""How sure a score is: the images of each class are drawn anew."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

REPLICATES = 400
Interval = tuple[float, float]


def bootstrap_scores(
    labels: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    features: npt.NDArray[np.floating],
    num_classes: int,
    confidence: float = 0.95,
) -> tuple[Interval, Interval]:
    """Intervals of recognizability and diversity, by a bootstrap over images within each class.

    A class drawn with repeats spreads less than the class by a factor of sqrt((n - 1) / n) on average; the replicates
    of diversity are enlarged by its inverse, so that they lie about the value itself.

    Args:
        labels: the class each image was made for, shape [images].
        predicted: the class the classifier sees, shape [images].
        features: shape [images, dimensions].
        num_classes: the classes are 0 to num_classes - 1.
        confidence: of both intervals.

    Returns:
        (low, high) of recognizability and (low, high) of diversity.
    """
    of_class = [np.flatnonzero(labels == label) for label in range(num_classes)]
    counts = _draw([len(places) for places in of_class])
    f1 = _replicate_f1(counts, [predicted[places] for places in of_class], num_classes)
    spread = np.mean(
        [_replicate_spread(drawn, features[places]) for drawn, places in zip(counts, of_class, strict=True)], axis=0
    )
    smallest = min(len(places) for places in of_class)
    spread *= np.sqrt(smallest / (smallest - 1))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    (low_f1, high_f1), (low_spread, high_spread) = np.quantile([f1, spread], tails, axis=1).T.tolist()
    return (low_f1, high_f1), (low_spread, high_spread)


def _draw(sizes: list[int]) -> list[npt.NDArray[np.uint16]]:
    """How often each image of each class is drawn in each replicate; of a class, shape [replicates, images]."""
    rng = np.random.default_rng(0)
    counts = [np.empty((REPLICATES, size), dtype=np.uint16) for size in sizes]
    for replicate in range(REPLICATES):
        for of_class, size in zip(counts, sizes, strict=True):
            of_class[replicate] = np.bincount(rng.integers(0, size, size), minlength=size)
    return counts


def _replicate_f1(
    counts: list[npt.NDArray[np.uint16]], predicted: list[npt.NDArray[np.integer]], num_classes: int
) -> npt.NDArray[np.float64]:
    """Macro F1 of each replicate, shape [replicates]."""
    seen, correct = np.zeros((2, REPLICATES, num_classes))
    for label, (drawn, answers) in enumerate(zip(counts, predicted, strict=True)):
        for answer in np.unique(answers):
            times = drawn[:, answers == answer].sum(axis=1)
            seen[:, answer] += times
            if answer == label:
                correct[:, label] = times
    asked = np.array([drawn.shape[1] for drawn in counts])
    return np.asarray((2 * correct / (asked + seen)).mean(axis=1))


def _replicate_spread(drawn: npt.NDArray[np.uint16], features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """One class's diversity in each replicate, shape [replicates]."""
    weights, images = drawn.astype(np.float64), len(features)
    about_mean = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)  # squares stay small
    mean = weights @ about_mean / images
    variance = (weights @ np.square(about_mean) / images - np.square(mean)) * images / (images - 1)
    return np.asarray(np.sqrt(np.maximum(variance, 0)).mean(axis=1))
