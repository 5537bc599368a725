"""Trains the autoencoder of the embedded Stable Diffusion: 32x32 grey images to latents of 4x8x8 and back.

It is trained with one colour channel and widened to three when saved, so its pictures are exactly grey.
Run by `stable_diffusion.py`, or alone: `python -m syn_ray.embedded.make.autoencoder --minutes 8 --out DIR`.
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from syn_ray.embedded.make.grey import COLOURS, widen_autoencoder
from syn_ray.embedded.make.idx import DEFAULT_DATA, GENERATOR_SPLIT, IMAGE_SIZE_PX, load_fashion
from syn_ray.embedded.make.loop import Average, Budget, learning_rate, save_checkpoint, set_learning_rate

_logger = logging.getLogger(__name__)

BATCH_SIZE = 32
PEAK_LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-3  # of the divergence per pixel: enough for smooth latents, too little to blur
EDGE_WEIGHT = (
    0.5  # of the error between neighbouring pixels' differences: keeps seams and straps that L1 alone averages away
)
CHECKPOINT_STEPS = 500


def build_autoencoder(channels: int) -> Any:
    """An untrained autoencoder for images with this many colour channels."""
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=IMAGE_SIZE_PX,
    )


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, 32, 32] as float [n, 1, 32, 32] from -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1).float().div_(127.5).sub_(1)


def picture_loss(difference: Tensor) -> Tensor:
    """How far a decoded picture is from the original, on the scale from -1 to 1: pixels, and edges."""
    across = (difference[..., :, 1:] - difference[..., :, :-1]).abs().mean()
    down = (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    return difference.abs().mean() + difference.square().mean() + EDGE_WEIGHT * (across + down)


def loss_of(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """The training loss and, for the log, the mean squared error."""
    posterior = model.encode(images).latent_dist
    difference = model.decode(posterior.sample()).sample - images
    divergence = posterior.kl().mean() / images[0].numel()
    return picture_loss(difference) + KL_WEIGHT * divergence, difference.detach().square().mean()


@torch.no_grad()
def reconstruction_error(model: Any, images: NDArray[np.uint8]) -> float:
    """Mean squared error per pixel, on the scale from -1 to 1, decoding the posterior's mean."""
    total = 0.0
    for part in np.array_split(images, max(1, len(images) // 250)):
        x = to_tensor(part)
        total += functional.mse_loss(model.decode(model.encode(x).latent_dist.mean).sample, x).item() * len(part)
    return total / len(images)


def train_autoencoder(images: NDArray[np.uint8], minutes: float, checkpoint: Path, seed: int = 0) -> Any:
    """The one-channel autoencoder after so many minutes; goes on from the checkpoint where there is one."""
    torch.manual_seed(seed)
    model = build_autoencoder(channels=1).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    average, budget, step = Average(model, 0.998), Budget(minutes), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        average.steps = step = state["step"]
        budget.spent_before = state["spent"]
    rng = np.random.default_rng([seed, step])
    while budget.progress < 1:
        set_learning_rate(optimizer, learning_rate(PEAK_LEARNING_RATE, budget.progress))
        batch = to_tensor(images[rng.integers(0, len(images), BATCH_SIZE)])
        with torch.autocast("cpu", torch.bfloat16):  # half as fast again as float32 on a processor with bf16
            loss, squared = loss_of(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        step += 1
        if step % 100 == 0:
            _logger.info("step %d, %.0f s: loss %.4f, mse %.4f", step, budget.spent, loss.item(), squared.item())
        if step % CHECKPOINT_STEPS == 0:
            parts = {
                "model": model.state_dict(),
                "average": average.module.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            save_checkpoint(checkpoint, {**parts, "step": step, "spent": budget.spent})
    _logger.info("trained %d steps, %d images, %.0f s", step, step * BATCH_SIZE, budget.spent)
    return average.module


@torch.no_grad()
def encode_images(model: Any, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [n, 4, 8, 8] of each image's latents, unscaled."""
    posteriors = [
        model.encode(to_tensor(part)).latent_dist for part in np.array_split(images, max(1, len(images) // 250))
    ]
    return torch.cat([p.mean for p in posteriors]), torch.cat([p.std for p in posteriors])


def main() -> None:
    """Trains, measures on the test images and saves a three-channel autoencoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the result")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = load_fashion(arguments.data)
    images = data.train_images[GENERATOR_SPLIT.start : GENERATOR_SPLIT.stop]
    model = train_autoencoder(images, arguments.minutes, arguments.out / "autoencoder.pt")
    _logger.info("test mse %.5f", reconstruction_error(model, data.test_images))
    torch.save(model.state_dict(), arguments.out / "autoencoder-grey.pt")
    wide = widen_autoencoder(model, build_autoencoder(COLOURS))
    mean, std = encode_images(model, images[:10_000])
    wide.register_to_config(scaling_factor=round(1 / (mean + std * torch.randn_like(mean)).std().item(), 4))
    wide.save_pretrained(arguments.out / "vae")
    _logger.info("scaling_factor %s", wide.config.scaling_factor)


if __name__ == "__main__":
    main()
