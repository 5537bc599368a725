"""What every set of real images is to those who read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class RealImage:
    """An encoded image file and, where there is one, its caption."""

    image: bytes
    text: str | None
    file: str | None = None
    """Where it was read, for errors about it; None where it has no file of its own."""


class ImageSet(Protocol):
    """Labelled images in a fixed order."""

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """The class of every image, shape [images]."""

    def read(self, positions: Sequence[int]) -> list[RealImage]:
        """The images at these positions."""

    def captions(self) -> list[str | None]:
        """The caption of every image; None where it has none."""
