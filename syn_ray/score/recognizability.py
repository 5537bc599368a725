"""Does a classifier trained on real images see what was asked for?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def f1_per_class(labels: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> npt.NDArray[np.float64]:
    """F1 of each class, shape [num_classes]; 0 for a class that is neither asked for nor seen correctly.

    Args:
        labels: the class each image was made for, shape [images].
        predicted: the class the classifier sees, shape [images].
        num_classes: the classes are 0 to num_classes - 1.

    Source: paper section 3.2.
    """
    confusion = np.zeros((num_classes, num_classes))
    np.add.at(confusion, (np.asarray(labels), np.asarray(predicted)), 1)
    correct = np.diag(confusion)
    asked_or_seen = confusion.sum(axis=0) + confusion.sum(axis=1)
    f1: npt.NDArray[np.float64] = np.zeros(num_classes)
    np.divide(2 * correct, asked_or_seen, out=f1, where=asked_or_seen > 0)
    return f1


def recognizability(labels: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> float:
    """The mean of the classes' F1 (macro F1), in 0..1. Source: paper section 3.2."""
    return float(f1_per_class(labels, predicted, num_classes).mean())
