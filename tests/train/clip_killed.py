"""A CLIP training that test_clip_killed.py kills, in the directory FOLDER: it tells each tenth step in `steps`."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import torch

from syn_ray.core.storage import Storage
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.clip import train_clip
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.execution import Execution, Progress


def main(folder: Path) -> None:
    torch.set_num_threads(1)

    def tell(progress: Progress) -> None:
        with (folder / "steps").open("a") as file:
            file.write(f"{progress.step}\n")

    trained = train_clip(
        ClipConfig.model_validate_json((folder / "config.json").read_text()),
        pq.read_table(folder / "pairs.parquet"),
        Execution(CheckpointFile(Storage(folder), "run"), on_progress=tell, checkpoint_seconds=0),
        synthetic=pq.read_table(folder / "synthetic.parquet"),
        seed=0,
    )
    torch.save((trained.train_loss, trained.samples_seen, trained.model.state_dict()), folder / "trained.pt")


if __name__ == "__main__":
    main(Path(globals()["FOLDER"]))
