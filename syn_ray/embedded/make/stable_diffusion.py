"""Makes the embedded Stable Diffusion: autoencoder, then denoiser and text encoder, saved in diffusers' format.

Run: `OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m syn_ray.embedded.make.stable_diffusion --work DIR`, one process
per core; without torchrun it is one process. It goes on where it stopped when it is started again.
"""

import argparse
import copy
import json
import logging
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from transformers import CLIPTokenizer

from syn_ray.embedded import ASSETS, record_revision
from syn_ray.embedded.captions import attributes
from syn_ray.embedded.make.autoencoder import build_autoencoder, encode_images
from syn_ray.embedded.make.denoiser import Latents, TextToNoise, build_denoiser, build_scheduler, train_denoiser
from syn_ray.embedded.make.idx import DEFAULT_DATA, GENERATOR_SPLIT, load_fashion
from syn_ray.embedded.make.loop import join_processes, place
from syn_ray.embedded.make.text import build_text_encoder, shared_tokenizer

_logger = logging.getLogger(__name__)


def assemble(vae: Any, tokenizer: CLIPTokenizer, model: TextToNoise) -> Any:
    """The pipeline out of its trained parts."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.denoiser,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_halves(vae: Any, tokenizer: CLIPTokenizer, model: TextToNoise, directory: Path) -> None:
    """Saves the pipeline with half precision files; the parts themselves stay float32."""
    tokenizer.backend_tokenizer.no_padding()  # the training prompts' padding is not the tokenizer's
    pipeline = assemble(copy.deepcopy(vae), tokenizer, copy.deepcopy(model))
    pipeline.to(torch.float16).save_pretrained(directory, safe_serialization=True)


def load_latents(work: Path, data: Path) -> tuple[Any, Latents]:
    """The trained autoencoder, and what it makes of the generator split."""
    vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    vae.register_to_config(_name_or_path="")  # not this machine's folder
    grey = torch.load(work / "autoencoder-grey.pt", weights_only=True)
    narrow = build_autoencoder(channels=1).eval()
    narrow.load_state_dict(grey)
    fashion = load_fashion(data)
    own = slice(GENERATOR_SPLIT.start, GENERATOR_SPLIT.stop)
    images, labels = fashion.train_images[own], fashion.train_labels[own]
    mean, std = encode_images(narrow, images)
    return vae, Latents(mean, std, vae.config.scaling_factor, labels, attributes(images, labels))


def main() -> None:
    """Trains and saves; early snapshots go to the work folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    parser.add_argument("--minutes", type=float, default=32, help="for the denoiser and the text encoder")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder that `make.autoencoder` wrote; checkpoints go there too"
    )
    parser.add_argument("--snapshots", type=Path, help="folder for a usable pipeline every few minutes")
    parser.add_argument("--out", type=Path, default=ASSETS / "stable-diffusion")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    join_processes()
    torch.manual_seed(0)
    vae, latents = load_latents(arguments.work, arguments.data)
    tokenizer = shared_tokenizer(arguments.work / "tokenizer")
    model = TextToNoise(build_denoiser(), build_text_encoder(tokenizer)).train()
    parts: dict[str, Any] = {"vae": vae, "denoiser": model.denoiser, "text_encoder": model.text_encoder}
    _logger.info(
        "parameters: %s", json.dumps({name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()})
    )

    def on_checkpoint(average: TextToNoise, seconds: float) -> None:
        if arguments.snapshots:
            save_halves(vae, tokenizer, average, arguments.snapshots)
        if not arguments.out.exists():
            save_halves(vae, tokenizer, average, arguments.out)
            record_revision("stable-diffusion")
            _logger.info("first pipeline after %.0f s in %s", seconds, arguments.out)

    trained = train_denoiser(
        model, latents, tokenizer, arguments.minutes, arguments.work / "denoiser.pt", on_checkpoint
    )
    if place()[0] > 0:
        return
    save_halves(vae, tokenizer, trained, arguments.out)
    _logger.info("saved %s, revision %s", arguments.out, record_revision("stable-diffusion"))


if __name__ == "__main__":
    main()
