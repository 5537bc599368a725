"""The words of the embedded generators: the training prompts of all, the tokenizer and text encoder of CLIP's kind.

No download: the byte-pair vocabulary is learned from the prompts; every character stands in it, so unknown words split.
"""

import json
import string
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from syn_ray.embedded import CLASS_NAMES
from syn_ray.embedded.captions import PATTERNS, SHAPES, TONES, compose
from syn_ray.embedded.make.loop import place, wait_for_all

MAX_TOKENS = 24  # the longest training prompt takes 15 with its two end marks
EMBEDDING_SIZE = 64
SHARE_EMPTY = 0.10
SHARE_CLASS_NAME = 0.40
_BARE_SHARE = (
    1 / 3
)  # of the class-name prompts: the bare name, and as many "a photo of a ..."; the templates share the rest


def class_prompts(name: str) -> list[str]:
    """The prompts that name only the class: bare, "a photo of a", and OpenAI's 80 ImageNet templates."""
    return [name, f"a photo of a {name}", *(template(name) for template in open_clip.OPENAI_IMAGENET_TEMPLATES)]


class PromptBook:
    """Every training prompt by number, and a draw of one for each image."""

    def __init__(self) -> None:
        self.prompts: list[str] = [""]
        self._class_start: list[int] = []
        for name in CLASS_NAMES:
            self._class_start.append(len(self.prompts))
            self.prompts.extend(class_prompts(name))
        self._caption_start = len(self.prompts)
        kinds = product(range(len(CLASS_NAMES)), range(len(TONES)), range(len(SHAPES)), range(len(PATTERNS)))
        for label, tone, shape, pattern in kinds:
            caption = compose(tone, shape, pattern, label)
            self.prompts.extend([caption, f"{CLASS_NAMES[label]}, {caption}"])

    def draw(
        self, labels: NDArray[np.int64], attributes: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """A prompt number [n] for each image: mostly its caption, at times its class alone, at times nothing."""
        count = len(labels)
        templates = len(self.prompts[self._class_start[0] : self._class_start[1]]) - 2
        which = rng.random(count)
        of_class = np.where(
            which < _BARE_SHARE, 0, np.where(which < 2 * _BARE_SHARE, 1, 2 + rng.integers(0, templates, count))
        )
        by_class = np.asarray(self._class_start)[labels] + of_class
        tone, shape, pattern = attributes.T
        place = ((labels * len(TONES) + tone) * len(SHAPES) + shape) * len(PATTERNS) + pattern
        by_caption = self._caption_start + 2 * place + rng.integers(0, 2, count)
        kind = rng.random(count)
        with_text = np.where(kind < SHARE_EMPTY + SHARE_CLASS_NAME, by_class, by_caption)
        return np.where(kind < SHARE_EMPTY, 0, with_text)


def shared_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer in a folder; where there is none, the first process makes it.

    It is made once and kept: the library that learns it numbers some tokens anew in every process.
    """
    if place()[0] == 0 and not folder.exists():
        _build_tokenizer(PromptBook().prompts).save_pretrained(folder)
    wait_for_all()
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def _build_tokenizer(prompts: list[str]) -> CLIPTokenizer:
    """A CLIP tokenizer whose vocabulary is these prompts' words, and single characters for everything else."""
    suffix = "</w>"
    learner = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    special = ["<|startoftext|>", "<|endoftext|>"]
    learner.train_from_iterator(
        prompts, trainers.BpeTrainer(end_of_word_suffix=suffix, special_tokens=special, vocab_size=4096)
    )
    vocab, merges = _parts(learner.to_str())
    for character in string.ascii_lowercase + string.digits + string.punctuation:
        for token in (character, character + suffix):
            vocab.setdefault(token, len(vocab))
    end = special[1]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS, pad_token=end)


def _parts(serialised: str) -> tuple[dict[str, int], Any]:
    """Vocabulary and merges out of a serialised byte-pair tokenizer."""
    model = json.loads(serialised)["model"]
    return dict(model["vocab"]), [(left, right) for left, right in model["merges"]]


def build_text_encoder(tokenizer: CLIPTokenizer, kind: Any = CLIPTextModel, layers: int = 2) -> Any:
    """An untrained CLIP text encoder of this class; it is trained together with the model that it serves."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=EMBEDDING_SIZE,
        intermediate_size=3 * EMBEDDING_SIZE,
        projection_dim=EMBEDDING_SIZE,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return kind(config)
