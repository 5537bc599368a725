"""What a text encoder takes whole, and which words an embedded generator knows: said before any image is paid for."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from syn_ray import embedded
from syn_ray.core.errors import UserError
from syn_ray.datasets.config import EmbeddedPairs, ImageText
from syn_ray.datasets.vocabulary import class_names, open_clip_lists
from syn_ray.embedded import captions

CLIP_TOKENS = 77
"""CLIP's limit, its two end marks included; also where a tokenizer states none, as diffusers' pipelines take it."""
MARKS = 2
"""Tokens beyond those of the text: CLIP's two end marks; T5 has one, and may spend one on a leading space."""


@dataclasses.dataclass(frozen=True)
class TokenCounter:
    """Counts prompts as a text encoder sees them."""

    limit: int
    """Tokens that it takes, end marks included; the rest of a prompt is cut off."""
    name: str
    """Whose tokenizer counts."""
    encode: Callable[[list[str]], Sequence[Sequence[int]]]

    def excess(self, prompts: Sequence[str]) -> dict[str, int]:
        """The prompts longer than the limit, with their tokens."""
        # A token stands for at least one byte, so that most prompts need no tokenizer.
        doubtful = [p for p in dict.fromkeys(prompts) if len(p.encode()) + MARKS > self.limit]
        lengths = [len(tokens) for tokens in self.encode(doubtful)] if doubtful else []
        return {prompt: n for prompt, n in zip(doubtful, lengths, strict=True) if n > self.limit}


def own_counter(model_id: str, revision: str | None) -> TokenCounter:
    """The counter of a generator's own tokenizer.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        return _load(model_id, revision, local_only=os.environ.get("HF_HUB_OFFLINE") == "1")
    except (OSError, ValueError) as error:
        raise UserError(
            f"the tokenizer of '{model_id}' cannot be loaded: {str(error).strip().splitlines()[0]}; "
            f"fetch the model with `hf download {model_id}` or give a local directory"
        ) from None


def counter_at_hand(model_id: str, revision: str | None, *, clip: bool) -> TokenCounter | None:
    """The counter of a generator's tokenizer where that is on this machine; nothing is fetched.

    Args:
        model_id: a generator.
        revision: its revision.
        clip: its text encoder is CLIP's, whose tokenizer comes with open_clip and stands in for its own.

    Returns:
        None where neither is at hand.
    """
    try:
        return _load(model_id, revision, local_only=True)
    except (OSError, ValueError):
        return _clip_counter() if clip else None


@functools.lru_cache(maxsize=4)
def _load(model_id: str, revision: str | None, *, local_only: bool) -> TokenCounter:
    folder = embedded.resolve(model_id) or Path(model_id)
    files = sorted(folder.glob("**/tokenizer/tokenizer.json"))  # a cascade keeps it in its first stage
    if files:  # needs no transformers, whose import takes seconds
        from tokenizers import Tokenizer

        fast = Tokenizer.from_file(str(files[0]))
        stated = json.loads(files[0].with_name("tokenizer_config.json").read_text()).get("model_max_length")
        return TokenCounter(
            _limit(stated), f"the tokenizer of {model_id}", lambda texts: [e.ids for e in fast.encode_batch(texts)]
        )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        model_id, revision=revision, subfolder="tokenizer", local_files_only=local_only, trust_remote_code=False
    )
    return TokenCounter(
        _limit(tokenizer.model_max_length),
        f"the tokenizer of {model_id}",
        lambda texts: tokenizer(texts, verbose=False).input_ids,
    )


@functools.cache
def _clip_counter() -> TokenCounter:
    def encode(texts: list[str]) -> list[list[int]]:
        from open_clip.tokenizer import SimpleTokenizer  # imports torch: only where a prompt is near the limit

        tokenizer = SimpleTokenizer()
        return [[0, *tokenizer.encode(text), 0] for text in texts]

    return TokenCounter(CLIP_TOKENS, "open_clip's CLIP tokenizer", encode)


def _limit(stated: object) -> int:
    """A tokenizer without a limit of its own states none, or a number beyond any use."""
    return stated if isinstance(stated, int) and stated < 10**6 else CLIP_TOKENS


@functools.cache
def embedded_words() -> frozenset[str]:
    """The words of the prompts that the embedded generators were trained on: classes, captions and templates."""
    templates = [template("") for template in open_clip_lists().OPENAI_IMAGENET_TEMPLATES]
    texts = (*embedded.CLASS_NAMES, *captions.TONES, *captions.SHAPES, *captions.PATTERNS, *templates)
    return frozenset(word for text in texts for word in _words(text))


def check_words(model_id: str, classes: Sequence[str]) -> None:
    """Raises a UserError where an embedded generator is asked for a class in words that it was never taught."""
    unknown = unlearned(model_id, classes)
    if unknown:
        name, word = next(iter(unknown.items()))
        raise UserError(
            f"classes: generator '{model_id}' never learned the word '{word}' of class '{name}' "
            f"({len(unknown)} of {len(classes)} classes have such words); name classes "
            f"in words like {', '.join(class_names('fashion'))}, or take another generator"
        )


def unlearned(model_id: str, texts: Sequence[str]) -> dict[str, str]:
    """Those of the texts that have words which an embedded generator was never taught, and the first such word."""
    if not model_id.startswith(embedded.PREFIX):
        return {}
    first = {text: next((word for word in _words(text) if word not in embedded_words()), None) for text in texts}
    return {text: word for text, word in first.items() if word is not None}


def check_captions(model_id: str, pairs: ImageText) -> None:
    """Raises a UserError where an embedded generator is asked for captions other than those it was taught."""
    if model_id.startswith(embedded.PREFIX) and not isinstance(pairs, EmbeddedPairs):
        raise UserError(
            f"pairs: generator '{model_id}' never learned the words of '{pairs.name}'; take another generator, "
            "or pairs: {kind: embedded, name: pool}"
        )


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())
