"""Makes the embedded Muse: image tokenizer, then transformer and text encoder, saved as AmusedPipeline loads them.

Run: `OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m syn_ray.embedded.make.muse --work DIR`, one process per core;
without torchrun it is one process. It goes on where it stopped when it is started again.
"""

import argparse
import copy
import json
import logging
from pathlib import Path
from typing import Any

import torch
from diffusers import AmusedPipeline
from transformers import CLIPTokenizer

from syn_ray.embedded import ASSETS, record_revision
from syn_ray.embedded.captions import attributes
from syn_ray.embedded.make import codebook, masked
from syn_ray.embedded.make.grey import COLOURS, widen_autoencoder
from syn_ray.embedded.make.idx import DEFAULT_DATA, load_fashion, load_generator_split
from syn_ray.embedded.make.loop import join_processes, place
from syn_ray.embedded.make.text import shared_tokenizer

_logger = logging.getLogger(__name__)

NAME = "muse"


def save_halves(vqvae: Any, tokenizer: CLIPTokenizer, model: masked.TextToTokens, directory: Path) -> None:
    """Saves the pipeline with half precision files; the parts themselves stay float32."""
    tokenizer.backend_tokenizer.no_padding()  # the training prompts' padding is not the tokenizer's
    pipeline = AmusedPipeline(
        vqvae=copy.deepcopy(vqvae),
        tokenizer=tokenizer,
        text_encoder=copy.deepcopy(model.text_encoder),
        transformer=copy.deepcopy(model.transformer),
        scheduler=masked.build_scheduler(),
    )
    pipeline.to(torch.float16).save_pretrained(directory, safe_serialization=True)


def main() -> None:
    """Trains and saves; early snapshots go to a folder of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with the idx files")
    parser.add_argument("--minutes-tokenizer", type=float, default=9, help="for the image tokenizer")
    parser.add_argument("--minutes", type=float, default=62, help="for the transformer and the text encoder")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--snapshots", type=Path, help="folder for the pipeline as it is every few minutes")
    parser.add_argument("--out", type=Path, default=ASSETS / NAME)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.work.mkdir(parents=True, exist_ok=True)
    join_processes()
    images, labels = load_generator_split(arguments.data)
    tokens = codebook.train_tokenizer(images, arguments.minutes_tokenizer, arguments.work / "tokenizer.pt")
    if place()[0] == 0:
        error, perplexity = codebook.judge(tokens, load_fashion(arguments.data).test_images[:2_000])
        _logger.info("tokenizer: squared error on test images %.5f, perplexity %.0f", error, perplexity)
    vqvae = widen_autoencoder(tokens.model, codebook.build_vq(COLOURS))
    tokenizer = shared_tokenizer(arguments.work / "tokenizer")

    def on_checkpoint(average: masked.TextToTokens, _: float) -> None:
        if arguments.snapshots:
            save_halves(vqvae, tokenizer, average, arguments.snapshots)

    trained = masked.train_transformer(
        codebook.encode_tokens(tokens, images),
        labels,
        attributes(images, labels),
        masked.smooth_targets(tokens.codebook),
        tokenizer,
        arguments.minutes,
        arguments.work / "transformer.pt",
        on_checkpoint,
    )
    if place()[0] > 0:
        return
    parts = {"vqvae": vqvae, "transformer": trained.transformer, "text_encoder": trained.text_encoder}
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    _logger.info("parameters: %s", json.dumps(sizes))
    save_halves(vqvae, tokenizer, trained, arguments.out)
    revision = record_revision(NAME) if arguments.out == ASSETS / NAME else "none, as it is not in the package"
    _logger.info("saved %s, revision %s", arguments.out, revision)


if __name__ == "__main__":
    main()
