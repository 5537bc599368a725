"""One training run: which model on which first D samples, and where it leaves what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from syn_ray.core.config import fingerprint_of
from syn_ray.core.storage import Storage
from syn_ray.train.config import ClassifyConfig


@dataclass(frozen=True)
class Run:
    """One model trained on the first `dataset_size` samples of a source."""

    curve: str
    images: Storage
    """The directory of the source."""
    source_fingerprint: str
    dataset_size: int
    seed: int
    num_classes: int
    config: ClassifyConfig
    runs: Storage
    """The study's `runs/` directory."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the trained weights depend on; storage and curve name are not among it."""
        return {
            "config": self.config.model_dump(mode="json"),
            "source": self.source_fingerprint,
            "dataset_size": self.dataset_size,
            "seed": self.seed,
            "num_classes": self.num_classes,
        }

    @property
    def fingerprint(self) -> str:
        return fingerprint_of("run", self.identity)

    @property
    def name(self) -> str:
        return f"{self.curve}-D{self.dataset_size}-seed{self.seed}-{self.fingerprint[:8]}"

    @property
    def directory(self) -> Storage:
        return self.runs / self.name
