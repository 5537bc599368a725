"""A small labelled source and a small captioned one, and the smallest ViT and CLIP that learn them."""

from __future__ import annotations

import functools
import io
import multiprocessing
import runpy
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from syn_ray.core.storage import Storage
from syn_ray.shards.schema import IMAGE
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.clip_config import ClipConfig
from syn_ray.train.config import ClassifyConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

SMALL: dict[str, Any] = {
    "model": "vit_base_patch16_224",
    "model_kwargs": {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    "image_px": 16,
    "resize_px": 16,
    "batch_size": 16,
    "augment": {"crop": "shift", "shift_px": 1, "rand_augment_ops": 0, "mixup_alpha": 0.0},
    "optimizer": {"learning_rate": 3e-3, "weight_decay": 0.05},
    "steps": {"base_steps": 40, "reference_size": 40, "steps_per_doubling": 10},
}

SMALL_CLIP: dict[str, Any] = {
    "model": "small",
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 1},
    },
    "batch_size": 16,
    "epochs": 8,
    "augment": {"crop": "shift", "shift_px": 1},
    "optimizer": {"learning_rate": 3e-3},
}
COLOURS = ("red", "green", "blue", "grey", "black", "white", "pink", "brown")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that sums are added in one order
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def start_script() -> Callable[..., BaseProcess]:
    """Starts a script with these globals, in a process forked from one that has imported what takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["syn_ray.train.classify", "syn_ray.train.clip"])

    def start(script: Path, **variables: Any) -> BaseProcess:
        process = context.Process(target=runpy.run_path, args=(str(script), variables, "__main__"))
        process.start()
        return process

    return start


@pytest.fixture
def train_on_two(start_script, tmp_path) -> Callable[[Path], list[Any]]:
    """Runs a script as two workers, with RANK, WORLD_SIZE and FOLDER, and gives what each has saved as its result."""

    def train(script: Path) -> list[Any]:
        workers = [start_script(script, RANK=rank, WORLD_SIZE=2, FOLDER=str(tmp_path)) for rank in range(2)]
        try:
            for worker in workers:
                worker.join(timeout=280)
            assert [worker.exitcode for worker in workers] == [0, 0]
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
        return [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]

    return train


@pytest.fixture
def make_config() -> Callable[..., ClassifyConfig]:
    """A small configuration; nested settings are merged, others replaced."""

    def make(**changes: Any) -> ClassifyConfig:
        merged = SMALL | changes
        for key in ("model_kwargs", "augment", "optimizer", "steps"):
            merged[key] = SMALL[key] | changes.get(key, {})
        return ClassifyConfig.model_validate(merged)

    return make


@pytest.fixture
def make_source() -> Callable[..., pa.Table]:
    """Images of noise around a colour of their class, as PNG, in chunks of 7 rows."""

    def make(size: int = 40, num_classes: int = 4, px: int = 16) -> pa.Table:
        colours = np.random.default_rng(0).integers(40, 215, (num_classes, 3))
        rows = []
        for index in range(size):
            noise = np.random.default_rng([1, index]).integers(-40, 40, (px, px, 3))
            buffer = io.BytesIO()
            Image.fromarray((colours[index % num_classes] + noise).astype(np.uint8)).save(buffer, "png")
            image = {"bytes": buffer.getvalue(), "path": f"{index}.png"}
            rows.append({"sample_index": index, "image": image, "label": index % num_classes})
        schema = pa.schema(
            {
                "sample_index": pa.int64(),
                "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
                "label": pa.int32(),
            }
        )
        parts = [pa.Table.from_pylist(rows[start : start + 7], schema) for start in range(0, size, 7)]
        return pa.concat_tables(parts)

    return make


@pytest.fixture
def checkpoints(tmp_path) -> CheckpointFile:
    return CheckpointFile(Storage(tmp_path), "checkpoint.pt", run="source")


@pytest.fixture
def make_clip_config() -> Callable[..., ClipConfig]:
    """A small configuration; nested settings are merged, others replaced."""

    def make(**changes: Any) -> ClipConfig:
        merged = SMALL_CLIP | changes
        for key in ("model_cfg", "augment", "optimizer"):
            merged[key] = SMALL_CLIP[key] | (changes.get(key) or {})
        for key in ("vision_cfg", "text_cfg"):
            merged["model_cfg"][key] = SMALL_CLIP["model_cfg"][key] | merged["model_cfg"][key]
        return ClipConfig.model_validate(merged)

    return make


@pytest.fixture
def make_pairs() -> Callable[..., pa.Table]:
    """Captions, each of its own, and images that say which sample they belong to (red: 3 x row) and which table."""
    return _pairs


@functools.cache
def _pairs(size: int = 40, px: int = 16, tone: int = 100) -> pa.Table:
    rows = []
    for index in range(size):
        pixels = np.full((px, px, 3), (3 * index, tone, 0), dtype=np.uint8)
        pixels[..., 2] = np.random.default_rng([2, index]).integers(0, 255, (px, px))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        image = {"bytes": buffer.getvalue(), "path": f"{index}.png"}
        text = f"a {COLOURS[index % 8]} {COLOURS[index // 8 % 8]} thing"
        rows.append({"sample_index": index, "image": image, "text": text})
    schema = pa.schema({"sample_index": pa.int64(), "image": IMAGE, "text": pa.string()})
    return pa.concat_tables([pa.Table.from_pylist(rows[start : start + 7], schema) for start in range(0, size, 7)])
