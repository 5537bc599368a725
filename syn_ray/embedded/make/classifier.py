"""Trains the embedded reference classifier, a small ResNet of timm's, on the generator split of Fashion-MNIST.

It scores recognizability and diversity, and its mistakes on the test images are the `adversarial` set (`images.py`
notes them). It never sees the pool.
Run: `OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m syn_ray.embedded.make.classifier --work DIR`; then
`timm.create_model("local-dir:" + str(asset_path("classifier")), pretrained=True)` loads it.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from syn_ray.embedded import ASSETS, CLASS_NAMES, CLASSIFIER, record_revision
from syn_ray.embedded.make.idx import DEFAULT_DATA, GENERATOR_SPLIT, IMAGE_SIZE_PX, load_fashion
from syn_ray.embedded.make.loop import (
    Average,
    Budget,
    average_gradients,
    join_processes,
    learning_rate,
    place,
    save_checkpoint,
    set_learning_rate,
)

_logger = logging.getLogger(__name__)

ARCHITECTURE = "resnet18"
MODEL_ARGS: dict[str, Any] = {
    "layers": (2, 2, 1, 1),
    "channels": (48, 72, 96, 112),
    "stem_type": "deep",
    "stem_width": 16,
}
BATCH_SIZE = 128
PEAK_LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
SHIFT_PX = 2


def to_input(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, 32, 32] as float [n, 3, 32, 32] from -1 to 1 (mean and standard deviation 0.5)."""
    grey = torch.from_numpy(np.ascontiguousarray(images)).float().div_(127.5).sub_(1)
    return grey.unsqueeze(1).expand(-1, 3, -1, -1)


def augment(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image mirrored half of the time, moved by up to two pixels, and in half of them a small square blanked."""
    count, _, height, width = images.shape
    flip = torch.rand(count, generator=rng) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    padded = functional.pad(images, (SHIFT_PX,) * 4, value=-1.0)
    top, left = torch.randint(0, 2 * SHIFT_PX + 1, (2, count), generator=rng)
    rows = (top[:, None] + torch.arange(height))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width))[:, None, None, :]
    moved = padded[torch.arange(count)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]
    corner = torch.randint(0, height, (2, count), generator=rng)
    side = torch.randint(0, 9, (count,), generator=rng)  # 0 to 8 px: on average nothing is lost of every ninth image
    along, across = torch.arange(height), torch.arange(width)
    in_rows = (along >= corner[0, :, None]) & (along < corner[0, :, None] + side[:, None])
    in_columns = (across >= corner[1, :, None]) & (across < corner[1, :, None] + side[:, None])
    return moved.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], -1.0)


@torch.no_grad()
def predict(model: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The most likely class [n] of each image."""
    parts = np.array_split(images, max(1, len(images) // 500))
    predicted: NDArray[np.int64] = torch.cat([model(to_input(part)).argmax(dim=1) for part in parts]).numpy()
    return predicted


def train_classifier(
    images: NDArray[np.uint8], labels: NDArray[np.int64], minutes: float, checkpoint: Path, seed: int = 0
) -> nn.Module:
    """The classifier after so many minutes, its weights averaged; goes on from the checkpoint where there is one."""
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model(ARCHITECTURE, num_classes=len(CLASS_NAMES), **MODEL_ARGS).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    average, budget, step = Average(model, 0.998), Budget(minutes), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        average.steps = step = state["step"]
        budget.spent_before = state["spent"]
    rank, world_size = place()
    rng = torch.Generator().manual_seed(1_000_003 * rank + seed + step)
    progress = budget.progress
    while progress < 1:
        order = torch.randperm(len(images), generator=rng).numpy()
        for start in range(0, len(images) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            set_learning_rate(optimizer, learning_rate(PEAK_LEARNING_RATE, progress))
            logits = model(augment(to_input(images[chosen]), rng))
            loss = functional.cross_entropy(logits, torch.from_numpy(labels[chosen]), label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            progress = average_gradients(model, budget.progress)
            optimizer.step()
            average.update(model)
            step += 1
            if progress >= 1:
                break
        if rank > 0:
            continue
        _logger.info("step %d, %.0f s: loss %.4f", step, budget.spent, loss.item())
        parts = {
            "model": model.state_dict(),
            "average": average.module.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        save_checkpoint(checkpoint, {**parts, "step": step, "spent": budget.spent})
    _logger.info("trained %d steps, %d images", step, step * BATCH_SIZE * world_size)
    return average.module


def save_classifier(model: nn.Module, directory: Path, test_accuracy: float) -> None:
    """Writes the two files that timm's "local-dir:" loads, in half precision."""
    directory.mkdir(parents=True, exist_ok=True)
    halves = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    save_file(halves, directory / "model.safetensors", metadata={"format": "pt"})
    pretrained_cfg = {
        "input_size": [3, IMAGE_SIZE_PX, IMAGE_SIZE_PX],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "num_classes": len(CLASS_NAMES),
        "pool_size": None,
        "first_conv": "conv1.0",
        "classifier": "fc",
        "license": "apache-2.0",
        "label_names": list(CLASS_NAMES),
    }
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": len(CLASS_NAMES),
        "model_args": MODEL_ARGS,
        "pretrained_cfg": pretrained_cfg,
        "test_accuracy": round(test_accuracy, 4),
    }
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> None:
    """Trains, measures on the test images and saves into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path, default=ASSETS / CLASSIFIER)
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    join_processes()
    data = load_fashion(arguments.data)
    own = slice(GENERATOR_SPLIT.start, GENERATOR_SPLIT.stop)
    model = train_classifier(
        data.train_images[own], data.train_labels[own], arguments.minutes, arguments.work / "classifier.pt"
    )
    if place()[0] > 0:
        return
    right = predict(model, data.test_images) == data.test_labels
    pool_accuracy = (predict(model, data.train_images[own.stop :]) == data.train_labels[own.stop :]).mean()
    _logger.info("accuracy: test %.4f, train images 30000-59999 %.4f", right.mean(), pool_accuracy)
    save_classifier(model, arguments.out, float(right.mean()))
    _logger.info("revision %s; now run make.images, which notes its mistakes", record_revision(CLASSIFIER))


if __name__ == "__main__":
    main()
