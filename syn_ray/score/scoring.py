"""One source under one classifier, and where its scores lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from syn_ray.core.config import fingerprint_of
from syn_ray.core.storage import Storage
from syn_ray.datasets.vocabulary import ClassInfo
from syn_ray.score.config import ScoreConfig


@dataclasses.dataclass(frozen=True)
class Scoring:
    """The scores of a source; the curves that share the source share them."""

    source: str
    source_fingerprint: str
    images: Storage
    """The directory of the source."""
    classes: Sequence[ClassInfo]
    """In label order."""
    config: ScoreConfig
    scores: Storage
    """The study's `scores/` directory."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def samples(self) -> int:
        """How many samples are scored: the first of the source."""
        return self.config.images_per_class * self.num_classes

    @property
    def identity(self) -> dict[str, Any]:
        return {"score": self.config.identity, "source": self.source_fingerprint}

    @property
    def fingerprint(self) -> str:
        return fingerprint_of("scores", self.identity)

    @property
    def directory(self) -> Storage:
        return self.scores / f"{self.source}-{self.fingerprint[:8]}"
