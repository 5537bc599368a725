"""The words of the embedded cascade: a T5 tokenizer and its untrained encoder, both tiny, for DeepFloyd IF's pipelines.

No download: every word of the training prompts is one piece, and single characters stand in for all others. The
encoder is trained together with the cascade's base.
"""

from __future__ import annotations

import string

from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5Tokenizer

IF_TOKENS = 77
"""The pipelines pad every prompt to this length and attend to the padding too, so training does the same."""

EMBEDDING_SIZE = 64
_START = "▁"  # how T5 marks the beginning of a word
_WORD_SCORE, _START_SCORE, _CHARACTER_SCORE = -3.0, -6.0, -8.0  # a whole word always beats its characters


def build_pieces(prompts: list[str]) -> list[tuple[str, float]]:
    """The vocabulary with its scores: special tokens, the prompts' words, and single characters."""
    words = {word.strip(string.punctuation) for prompt in prompts for word in prompt.lower().split()}
    characters = string.ascii_lowercase + string.digits + string.punctuation
    return [
        *((special, 0.0) for special in ("<pad>", "</s>", "<unk>")),
        *((_START + word, _WORD_SCORE) for word in sorted(words - {""})),
        (_START, _START_SCORE),
        *((character, _CHARACTER_SCORE) for character in characters),
    ]


def build_t5_tokenizer(prompts: list[str]) -> T5Tokenizer:
    """A T5 tokenizer with these prompts' words."""
    return T5Tokenizer(vocab=build_pieces(prompts), extra_ids=0, model_max_length=IF_TOKENS)


def build_t5_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    """An untrained two-layer T5 encoder."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=EMBEDDING_SIZE,
        d_kv=EMBEDDING_SIZE // 4,
        d_ff=2 * EMBEDDING_SIZE,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,  # a model this small underfits
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        is_encoder_decoder=False,
        use_cache=False,
    )
    return T5EncoderModel(config)


def encode_words(tokenizer: T5Tokenizer, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens and attention mask [n, 77] of prompts, as IFPipeline makes them: in lower case."""
    encoded = tokenizer(
        [prompt.lower().strip() for prompt in prompts],
        padding="max_length",
        max_length=IF_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    return encoded.input_ids, encoded.attention_mask
