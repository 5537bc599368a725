"""A transformers model that writes text: captions of images, sentences around a word. No Ray here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import LogitsProcessor, LogitsProcessorList

from syn_ray.core.errors import UserError
from syn_ray.prompts.config import Captioner, SentenceWriter

UNUSED = ("token_type_ids",)
"""What some tokenizers return and generate() refuses."""


class TextWriter:
    """Writes one text for each input. Each text has its own random numbers, so that it does not depend on its batch."""

    def __init__(self, config: Captioner | SentenceWriter) -> None:
        self._config = config
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._processor, model = _load(config)
        self._tokenizer = getattr(self._processor, "tokenizer", self._processor)
        self._tokenizer.padding_side = "left"  # a decoder goes on where its prompt ends
        self._model = model.to(self._device).eval()

    @torch.inference_mode()
    def write(self, inputs: Sequence[str] | Sequence[Image.Image], seeds: Sequence[int]) -> list[str]:
        """One text for each input, which a captioner sees and a sentence writer is told, sampled by the seed beside it.

        Returns:
            Texts of one line, without marks; a model may have written nothing.
        """
        encoded = {name: self._place(value) for name, value in self._encode(inputs).items() if name not in UNUSED}
        ids = self._model.generate(
            **encoded,
            max_new_tokens=self._config.max_new_tokens,
            num_beams=self._config.num_beams,
            do_sample=False,  # sampling is done by the noise: generate() would draw one number stream for the batch
            logits_processor=LogitsProcessorList([_GumbelNoise(self._config, seeds)] if self._config.do_sample else []),
        )
        told = encoded.get("input_ids")
        if told is not None and torch.equal(ids[:, : told.shape[1]], told):  # decoders repeat what they were told
            ids = ids[:, told.shape[1] :]
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _encode(self, inputs: Sequence[Any]) -> Any:
        if isinstance(self._config, SentenceWriter):
            texts = [self._config.prompt.replace("{}", word) for word in inputs]
            return self._processor(texts, padding=True, return_tensors="pt")
        images = [image.convert("RGB") for image in inputs]
        if not self._config.prompt:
            return self._processor(images=images, return_tensors="pt")
        return self._processor(
            images=images, text=[self._config.prompt] * len(images), padding=True, return_tensors="pt"
        )

    def _place(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self._device, self._model.dtype if value.is_floating_point() else None)


class _GumbelNoise(LogitsProcessor):
    """Turns the likeliest token into a sampled one: argmax(logits / temperature + Gumbel noise) is a draw of softmax.

    Source: Gumbel, 1954; the noise of each row comes from a generator of its own.
    """

    def __init__(self, config: Captioner | SentenceWriter, seeds: Sequence[int]) -> None:
        self._config = config
        self._rngs = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        scores = scores.float() / self._config.temperature
        if 0 < self._config.top_k < scores.shape[-1]:
            least = scores.topk(self._config.top_k).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=rng) for rng in self._rngs])
        return scores - (-uniform.clamp_min(torch.finfo(torch.float32).tiny).log()).log().to(scores.device)


def _load(config: Captioner | SentenceWriter) -> tuple[Any, Any]:
    reads, writes = (
        (transformers.AutoProcessor, transformers.AutoModelForImageTextToText)
        if isinstance(config, Captioner)
        else (transformers.AutoTokenizer, transformers.AutoModelForSeq2SeqLM)
    )
    options = {
        "revision": config.revision,
        "local_files_only": Path(config.model_id).is_dir() or os.environ.get("HF_HUB_OFFLINE") == "1",
        "trust_remote_code": False,
    }
    try:
        processor = reads.from_pretrained(config.model_id, **options)
        model = writes.from_pretrained(
            config.model_id, dtype=getattr(torch, config.dtype), use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"prompt model '{config.model_id}' cannot be loaded: {str(error).strip().splitlines()[0]}; "
            f"fetch it with `hf download {config.model_id}` or give a local directory with safetensors weights"
        ) from None
    return processor, model
