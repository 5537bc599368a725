"""The cascade's words: whole where training knows them, spelt where it does not, and none lost."""

from __future__ import annotations

import pytest

from syn_ray.embedded import CLASS_NAMES
from syn_ray.embedded.make.t5 import IF_TOKENS, build_t5_tokenizer, encode_words
from syn_ray.embedded.make.text import PromptBook


@pytest.fixture(scope="module")
def book():
    return PromptBook()


@pytest.fixture(scope="module")
def tokenizer(book):
    return build_t5_tokenizer(book.prompts)


def test_every_training_prompt_is_read_word_by_word(book, tokenizer):
    tokens, mask = encode_words(tokenizer, book.prompts)
    assert tokens.shape == mask.shape == (len(book.prompts), IF_TOKENS)
    assert not (tokens == tokenizer.unk_token_id).any()
    words = [tokenizer.convert_ids_to_tokens(tokenizer(f"a {name}.").input_ids) for name in CLASS_NAMES]
    assert all(
        pieces[1:-2] == ["▁" + word for word in name.split()] for pieces, name in zip(words, CLASS_NAMES, strict=True)
    )
    assert mask.sum(dim=1).max() < IF_TOKENS / 2


def test_unknown_words_are_spelt(tokenizer):
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("zebra").input_ids)
    assert "".join(pieces[:-1]) == "▁zebra"


def test_it_is_the_same_when_it_is_loaded_again(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path, local_files_only=True)
    assert loaded("a dark ankle boot, zebra!").input_ids == tokenizer("a dark ankle boot, zebra!").input_ids
    assert loaded.model_max_length == IF_TOKENS
