"""How sure a score is: the images of each class are drawn anew."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from syn_ray.score.diversity import diversity
from syn_ray.score.recognizability import recognizability

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
    rng = np.random.default_rng(0)
    of_class = [np.flatnonzero(labels == label) for label in range(num_classes)]
    smallest = min(len(places) for places in of_class)
    replicates = np.empty((2, REPLICATES))
    for replicate in range(REPLICATES):
        drawn = np.concatenate([rng.choice(places, len(places)) for places in of_class])
        replicates[0, replicate] = recognizability(labels[drawn], predicted[drawn], num_classes)
        replicates[1, replicate] = diversity(features[drawn], labels[drawn], num_classes)
    replicates[1] *= np.sqrt(smallest / (smallest - 1))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    (low_f1, high_f1), (low_spread, high_spread) = np.quantile(replicates, tails, axis=1).T.tolist()
    return (low_f1, high_f1), (low_spread, high_spread)
