"""One of WORLD_SIZE CLIP workers, of that RANK, started by test_clip_parallel.py; the job lies in FOLDER."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import torch
import torch.distributed as dist

from syn_ray.core.storage import Storage
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.clip import train_clip
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.contrast import Contrast
from syn_ray.train.execution import Execution
from syn_ray.train.image_text import ImageTextBatches


def first_step(config: ClipConfig, folder: str, rank: int, world_size: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first batch."""
    pairs = pq.read_table(f"{folder}/pairs.parquet")
    batches = ImageTextBatches(config, pairs, 0, rank=rank, world_size=world_size, cache_bytes=2**20)
    objective = Contrast(config, 0, torch.device("cpu"), gradient_checkpointing=False)
    loss = objective.backward(batches[0], 0).item()
    return loss, {name: p.grad for name, p in objective.model.named_parameters() if p.grad is not None}


def whole_run(config: ClipConfig, folder: str, name: str) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and weights of a run, with both arms."""
    losses: list[float] = []
    trained = train_clip(
        config,
        pq.read_table(f"{folder}/pairs.parquet"),
        Execution(
            CheckpointFile(Storage(folder), name),
            on_progress=lambda progress: losses.append(progress.loss),
            checkpoint_seconds=0,
        ),
        synthetic=pq.read_table(f"{folder}/synthetic.parquet"),
        seed=0,
    )
    return losses, trained.model.state_dict()


def main(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    configs = [ClipConfig.model_validate(each) for each in json.loads(Path(folder, "configs.json").read_text())]
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    found = [
        (first_step(config, folder, rank, world_size), whole_run(config, folder, f"run{number}"))
        for number, config in enumerate(configs)
    ]
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*(globals()[name] for name in ("RANK", "WORLD_SIZE", "FOLDER")))
