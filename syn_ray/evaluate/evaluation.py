"""One trained model on one evaluation set, and where the answer lies."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from syn_ray.core.config import fingerprint_of
from syn_ray.core.storage import Storage

PREDICTIONS = "predictions.parquet"
WITHIN = (1, 5, 10)
"""How many of the best answers retrieval looks at."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """A classifier over the classes it was trained on, with the official resize and crop."""

    image_px: int
    resize_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    masked: bool = False
    """Judged among the classes that occur in the set, as is usual of ImageNet-A and -R."""


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """A CLIP model that is given the names of the classes."""

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    masked: bool = False
    """As of `Classification`."""


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """A CLIP model among held-out pairs."""

    within: tuple[int, ...] = WITHIN


Task = Classification | ZeroShot | Retrieval


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One trained model on one evaluation set."""

    run: str
    run_fingerprint: str
    model: Storage
    """A directory that timm, or of CLIP open_clip, loads (`local-dir:`)."""
    eval_set: str
    eval_fingerprint: str
    images: Storage
    task: Task
    evaluations: Storage
    """The study's `evaluations/` directory."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the answer depends on beside the model and the images."""
        told = dataclasses.asdict(self.task)
        masked = told.pop("masked", False)  # told of masked sets alone: those of before keep their fingerprints
        return told | ({"masked": True} if masked else {})

    @property
    def fingerprint(self) -> str:
        parents = {"run": self.run_fingerprint, "images": self.eval_fingerprint}
        return fingerprint_of("evaluation", parents | self.identity)

    @property
    def directory(self) -> Storage:
        return self.evaluations / self.run / f"{self.eval_set}-{self.fingerprint[:8]}"

    @property
    def images_judged(self) -> bool:
        """Whether there is a loss for each image, which a law can be fitted to."""
        return not isinstance(self.task, Retrieval)

    def predictions(self) -> pa.Table:
        """What a finished evaluation says of each image: loss (nats), label, rank_of_label, predicted."""
        return pq.read_table(pa.BufferReader(self.directory.read_bytes(PREDICTIONS)))
