"""One trained model on one evaluation set, and where the answer lies."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq

from syn_ray.core.config import fingerprint_of
from syn_ray.core.storage import Storage

PREDICTIONS = "predictions.parquet"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One trained model on one evaluation set."""

    run: str
    run_fingerprint: str
    model: Storage
    """A directory that timm loads (`local-dir:`)."""
    eval_set: str
    eval_fingerprint: str
    images: Storage
    image_px: int
    resize_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    evaluations: Storage
    """The study's `evaluations/` directory."""

    @property
    def fingerprint(self) -> str:
        pixels = {"image_px": self.image_px, "resize_px": self.resize_px, "mean": self.mean, "std": self.std}
        return fingerprint_of("evaluation", {"run": self.run_fingerprint, "images": self.eval_fingerprint} | pixels)

    @property
    def directory(self) -> Storage:
        return self.evaluations / self.run / f"{self.eval_set}-{self.fingerprint[:8]}"

    def predictions(self) -> pa.Table:
        """What a finished evaluation says of each image: loss (nats), label, rank_of_label, predicted."""
        return pq.read_table(pa.BufferReader(self.directory.read_bytes(PREDICTIONS)))
