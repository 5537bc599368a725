"""One training run: which model on which first D samples, and where it leaves what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from syn_ray.core.config import fingerprint_of
from syn_ray.core.storage import Storage
from syn_ray.train.config import TrainConfig


@dataclass(frozen=True)
class Run:
    """One model trained on the first `dataset_size` samples of a source."""

    curve: str
    images: tuple[Storage, ...]
    """The directory of the source; of a mixed one that of its real images and that of its synthetic ones."""
    source_fingerprint: str
    dataset_size: int
    seed: int
    config: TrainConfig
    runs: Storage
    """The study's `runs/` directory."""
    num_classes: int | None = None
    """Of a classifier."""
    synthetic_probability: float | None = None
    """Of a mixed source: how often a visit shows the synthetic image."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the trained weights depend on; storage and curve name are not among it."""
        identity = {
            "config": self.config.model_dump(mode="json"),
            "source": self.source_fingerprint,
            "dataset_size": self.dataset_size,
            "seed": self.seed,
        }
        return identity if self.num_classes is None else identity | {"num_classes": self.num_classes}

    @property
    def is_streamed(self) -> bool:
        """Whether its samples are read as training comes to them; else every node holds them all."""
        stream = self.config.stream
        return stream is not None and self.dataset_size > stream.window

    @property
    def fingerprint(self) -> str:
        return fingerprint_of("run", self.identity)

    @property
    def name(self) -> str:
        return f"{self.curve}-D{self.dataset_size}-seed{self.seed}-{self.fingerprint[:8]}"

    @property
    def directory(self) -> Storage:
        return self.runs / self.name
