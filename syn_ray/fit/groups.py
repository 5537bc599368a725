"""Classes by how they scale: those that gain with more images, those easy from the start, those that stay poor.

Source: arXiv 2312.04567, section 4 and Fig. 5-7. The paper names the groups and examples, but gives no cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from syn_ray.core.errors import UserError

Group = Literal["scaling", "easy", "poor"]


@dataclass(frozen=True)
class Cuts:
    """Where the groups end, in the plane of k and performance at the reference size (paper: not given).

    Args:
        scaling_ability: k that is good; the median over classes when None.
        performance_low: Performance below which a class is weak; the lower third of the classes when None.
        performance_high: Performance above which a class is strong; the upper third when None.
    """

    scaling_ability: float | None = None
    performance_low: float | None = None
    performance_high: float | None = None


@dataclass(frozen=True)
class ClassGroups:
    """The group of each class, and the cuts that made it, for the report.

    Args:
        groups: One for each class; None for a class that lies between the groups.
        scaling_ability: Cut in k.
        performance_low: Lower cut in performance.
        performance_high: Upper cut in performance.
    """

    groups: tuple[Group | None, ...]
    scaling_ability: float
    performance_low: float
    performance_high: float


def group_classes(scaling_ability: ArrayLike, performance: ArrayLike, cuts: Cuts | None = None) -> ClassGroups:
    """The group of each class from its law.

    `easy`: good k, strong. `scaling`: good k, not strong: a weak start and a large gain. `poor`: small k, weak.

    Args:
        scaling_ability: [classes] k of each class's law.
        performance: [classes] its fitted performance at the reference size.
        cuts: Where the groups end; from the classes themselves when None.

    Raises:
        UserError: The lengths differ, a number is missing, or the cuts cross.
    """
    k, level = np.asarray(scaling_ability, dtype=np.float64), np.asarray(performance, dtype=np.float64)
    if k.ndim != 1 or k.shape != level.shape or not len(k):
        raise UserError(f"scaling_ability has shape {k.shape}, performance {level.shape}; give one of each for a class")
    for index in np.flatnonzero(~(np.isfinite(k) & np.isfinite(level)))[:1]:
        raise UserError(f"class {index} has no law: scaling_ability {k[index]:g}, performance {level[index]:g}")
    cuts = cuts or Cuts()
    cut_k = float(np.median(k)) if cuts.scaling_ability is None else cuts.scaling_ability
    low = float(np.quantile(level, 1 / 3)) if cuts.performance_low is None else cuts.performance_low
    high = float(np.quantile(level, 2 / 3)) if cuts.performance_high is None else cuts.performance_high
    if low > high:
        raise UserError(
            f"performance_low {low:g} is above performance_high {high:g}; a class cannot be weak and strong"
        )
    return ClassGroups(tuple(_group(*pair, cut_k, low, high) for pair in zip(k, level, strict=True)), cut_k, low, high)


def _group(k: float, level: float, cut_k: float, low: float, high: float) -> Group | None:
    if k >= cut_k:
        return "easy" if level >= high else "scaling"
    return "poor" if level <= low else None
