"""How different are the images of one class from each other?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from syn_ray.core.errors import SynRayError


def diversity_per_class(
    features: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.float64]:
    """Per class the unbiased standard deviation of each feature dimension over its images, then the mean of those.

    Args:
        features: the classifier's features before its last layer, shape [images, dimensions].
        labels: shape [images].
        num_classes: the classes are 0 to num_classes - 1.

    Returns:
        shape [num_classes], in units of the features.

    Raises:
        SynRayError: a class has fewer than two images.

    Source: paper section 3.2, which follows Boutin et al. (2022), "Diversity vs. Recognizability".
    """
    values = np.empty(num_classes)
    for label in range(num_classes):
        of_class = features[labels == label].astype(np.float64)
        if len(of_class) < 2:
            raise SynRayError(f"diversity: class {label} has {len(of_class)} images; it takes at least 2")
        values[label] = of_class.std(axis=0, ddof=1).mean()
    return values


def diversity(features: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], num_classes: int) -> float:
    """The mean of the classes' diversities. Source: paper section 3.2."""
    return float(diversity_per_class(features, labels, num_classes).mean())
