"""One of WORLD_SIZE training workers, of that RANK, started by test_parallel.py; the job lies in FOLDER."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from syn_ray.core.storage import Storage
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.classify import train_classifier
from syn_ray.train.config import ClassifyConfig
from syn_ray.train.execution import Execution


def main(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    config = ClassifyConfig.model_validate_json(Path(folder, "config.json").read_text())
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    losses: list[float] = []
    trained = train_classifier(
        config,
        pq.read_table(f"{folder}/source.parquet"),
        Execution(
            CheckpointFile(Storage(folder)),
            on_progress=lambda progress: losses.append(progress.loss),
            checkpoint_seconds=0,
        ),
        num_classes=4,
        seed=0,
    )
    torch.save((losses, trained.model.state_dict()), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*(globals()[name] for name in ("RANK", "WORLD_SIZE", "FOLDER")))
