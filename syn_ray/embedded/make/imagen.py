"""Makes the embedded cascade, a stand-in for Imagen: DeepFloyd IF's two pipelines in small, in diffusers' format.

Run: `OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m syn_ray.embedded.make.imagen --work DIR`, one process per core;
without torchrun it is one process. It goes on where it stopped when it is started again. The result is two folders,
`stage-1` and `stage-2`; the text encoder is stored in the first only.
"""

import argparse
import copy
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import IFPipeline, IFSuperResolutionPipeline
from numpy.typing import NDArray
from torch import Tensor

from syn_ray.embedded import ASSETS, record_revision
from syn_ray.embedded.captions import attributes
from syn_ray.embedded.make import cascade
from syn_ray.embedded.make.autoencoder import to_tensor
from syn_ray.embedded.make.grey import COLOURS, widen_denoiser
from syn_ray.embedded.make.idx import DEFAULT_DATA, load_generator_split
from syn_ray.embedded.make.loop import Recipe, join_processes, place, train
from syn_ray.embedded.make.t5 import build_t5_encoder, build_t5_tokenizer, encode_words
from syn_ray.embedded.make.text import PromptBook

_logger = logging.getLogger(__name__)

NAME = "imagen"
BATCH_SIZE = 32  # of one process
_UNUSED: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "watermarker": None,
    "requires_safety_checker": False,
}


@dataclass(frozen=True)
class Pictures:
    """The training set: uint8 images [n, 32, 32], labels and caption attributes, and the prompts drawn for them."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    attributes: NDArray[np.int64]
    book: PromptBook

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """One batch: images [n, 1, 32, 32] from -1 to 1, and the numbers of their prompts."""
        chosen = rng.integers(0, len(self.labels), BATCH_SIZE)
        return to_tensor(self.images[chosen]), self.book.draw(self.labels[chosen], self.attributes[chosen], rng)


def train_base(pictures: Pictures, minutes: float, checkpoint: Path, on_checkpoint: Any) -> cascade.TextToSmall:
    """The first stage and the text encoder after so many minutes."""
    tokenizer = build_t5_tokenizer(pictures.book.prompts)
    tokens, mask = encode_words(tokenizer, pictures.book.prompts)
    torch.manual_seed(0)  # the same beginning in all processes
    model = cascade.TextToSmall(cascade.build_base(colours=1), build_t5_encoder(tokenizer)).train()
    _tell_size("base", model.denoiser)
    _tell_size("text encoder", model.text_encoder)
    alphas_cumprod = cascade.build_scheduler().alphas_cumprod

    def loss_of(rng: np.random.Generator, _: float) -> Tensor:
        images, prompts = pictures.draw(rng)
        clean = cascade.shrink(images)
        timesteps = cascade.spread_timesteps(len(clean), len(alphas_cumprod))
        noisy = cascade.add_noise(clean, timesteps, alphas_cumprod)
        predicted = model(noisy, timesteps, tokens[prompts], mask[prompts])
        return cascade.image_loss(predicted, clean, timesteps, alphas_cumprod)

    return train(model, loss_of, Recipe(minutes, BATCH_SIZE), checkpoint, on_checkpoint)


def train_upscaler(pictures: Pictures, text_encoder: Any, minutes: float, checkpoint: Path, on_checkpoint: Any) -> Any:
    """The second stage after so many minutes; the text encoder is the first stage's and stays as it is."""
    tokenizer = build_t5_tokenizer(pictures.book.prompts)
    tokens, mask = encode_words(tokenizer, pictures.book.prompts)
    with torch.no_grad():
        parts = zip(torch.tensor_split(tokens, 12), torch.tensor_split(mask, 12), strict=True)
        states = torch.cat([text_encoder(t, attention_mask=m)[0] for t, m in parts])
    torch.manual_seed(1)  # the same beginning in all processes
    model = cascade.build_upscaler(colours=1).train()
    _tell_size("upscaler", model)
    alphas_cumprod = cascade.build_scheduler().alphas_cumprod
    alphas_of_level = cascade.build_noising_scheduler().alphas_cumprod

    def loss_of(rng: np.random.Generator, _: float) -> Tensor:
        images, prompts = pictures.draw(rng)
        levels = torch.randint(0, cascade.NOISE_LEVELS, (len(images),))
        given = cascade.add_noise(cascade.enlarge(cascade.shrink(images)), levels, alphas_of_level)
        timesteps = cascade.spread_timesteps(len(images), len(alphas_cumprod))
        both = torch.cat([cascade.add_noise(images, timesteps, alphas_cumprod), given], dim=1)
        predicted = model(both, timesteps, states[prompts], class_labels=levels, return_dict=False)[0]
        return cascade.image_loss(predicted, images, timesteps, alphas_cumprod)

    return train(model, loss_of, Recipe(minutes, BATCH_SIZE), checkpoint, on_checkpoint, seed=1)


def save_base(model: cascade.TextToSmall, directory: Path) -> None:
    """Saves the first stage with half precision files; the model itself stays float32."""
    pipeline = IFPipeline(
        tokenizer=build_t5_tokenizer(PromptBook().prompts),
        text_encoder=copy.deepcopy(model.text_encoder),
        unet=widen_denoiser(model.denoiser, cascade.build_base(COLOURS)),
        scheduler=cascade.build_scheduler(),
        **_UNUSED,
    )
    pipeline.to(torch.float16).save_pretrained(directory / "stage-1", safe_serialization=True)


def save_upscaler(model: Any, directory: Path) -> None:
    """Saves the second stage with half precision files, without a text encoder: it takes the first one's states."""
    pipeline = IFSuperResolutionPipeline(
        tokenizer=None,
        text_encoder=None,
        unet=widen_denoiser(model, cascade.build_upscaler(COLOURS)),
        scheduler=cascade.build_scheduler(),
        image_noising_scheduler=cascade.build_noising_scheduler(),
        **_UNUSED,
    )
    pipeline.to(torch.float16).save_pretrained(directory / "stage-2", safe_serialization=True)


def _tell_size(name: str, model: Any) -> None:
    _logger.info("parameters: %s", json.dumps({name: sum(p.numel() for p in model.parameters())}))


def main() -> None:
    """Trains and saves both stages; early snapshots go to a folder of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    parser.add_argument("--minutes", type=float, default=24, help="for the first stage and the text encoder")
    parser.add_argument("--minutes-upscaler", type=float, default=16, help="for the second stage")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--snapshots", type=Path, help="folder for the pipelines as they are every few minutes")
    parser.add_argument("--out", type=Path, default=ASSETS / NAME)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    join_processes()
    images, labels = load_generator_split(arguments.data)
    pictures = Pictures(images, labels, attributes(images, labels), PromptBook())

    def keep(save: Any) -> Any:
        return (lambda average, _: save(average, arguments.snapshots)) if arguments.snapshots else None

    base = train_base(pictures, arguments.minutes, arguments.work / "base.pt", keep(save_base))
    if place()[0] == 0:
        save_base(base, arguments.out)
    upscaler = train_upscaler(
        pictures, base.text_encoder, arguments.minutes_upscaler, arguments.work / "upscaler.pt", keep(save_upscaler)
    )
    if place()[0] > 0:
        return
    save_upscaler(upscaler, arguments.out)
    revision = record_revision(NAME) if arguments.out == ASSETS / NAME else "none, as it is not in the package"
    _logger.info("saved %s, revision %s", arguments.out, revision)


if __name__ == "__main__":
    main()
