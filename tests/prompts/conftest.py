"""Real models of the classes that write prompts, tiny and random, built here and saved as a user would have them."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("a", "dog", "runs", "in", "the", "park", "red", "small", "boot", "dress", "photo", "of", "on", "grass", "and")
SPECIAL = ("<pad>", "</s>", "<unk>")


def _tokenizer(*more: str):
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS, *more))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="</s>",
        unk_token="<unk>",
    )


@pytest.fixture(scope="session")
def sentence_model(tmp_path_factory):
    """A directory with a random T5 of some thousand parameters."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5")
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": len(tokenizer)}
    marks = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = T5Config.from_dict(sizes | marks)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def caption_model(tmp_path_factory):
    """A directory with a random BLIP-2 of some ten thousand parameters, which looks at 32 px images."""
    import torch
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessor

    folder = tmp_path_factory.mktemp("blip2")
    tokenizer = _tokenizer("<image>")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    config = Blip2Config(
        vision_config={**small, "image_size": 32, "patch_size": 16, "initializer_range": 0.5},
        qformer_config={**small, "encoder_hidden_size": 16, "vocab_size": len(tokenizer), "initializer_range": 0.5},
        text_config={
            "model_type": "opt",
            "hidden_size": 16,
            "word_embed_proj_dim": 16,
            "ffn_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "init_std": 0.5,
            **words,
        },
        num_query_tokens=4,
        image_token_index=len(tokenizer) - 1,
        initializer_range=0.5,
    )
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    Blip2Processor(images, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder
