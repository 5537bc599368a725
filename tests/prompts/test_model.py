"""Models that write prompts: each text by its own seed, whatever its batch; and what is said where there is none."""

import shutil

import pytest
import torch

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import EmbeddedImages
from syn_ray.datasets.real import open_images
from syn_ray.prompts.config import Captioner, SentenceWriter
from syn_ray.prompts.model import TextWriter


@pytest.fixture(scope="module")
def pictures():
    import io

    from PIL import Image

    real = open_images(EmbeddedImages(name="pool")).read(range(0, 6000, 1000))
    return [Image.open(io.BytesIO(one.image)) for one in real]


def _one_by_one(writer, inputs, seeds):
    return [text for item, seed in zip(inputs, seeds, strict=True) for text in writer.write([item], [seed])]


def test_sentences_are_sampled_by_their_own_seeds(sentence_model):
    writer = TextWriter(SentenceWriter(model_id=str(sentence_model)))
    seeds = list(range(12))
    texts = writer.write(["dog"] * 12, seeds)
    assert len(set(texts)) > 6
    assert texts == writer.write(["dog"] * 12, seeds) == _one_by_one(writer, ["dog"] * 12, seeds)
    assert writer.write(["dog"] * 12, seeds[::-1]) == texts[::-1]
    assert not any("<" in text for text in texts)


def test_sampling_draws_the_models_distribution(sentence_model):
    """The first word's frequencies are the model's probabilities: 4,000 draws; 0.03 is 5 standard errors at 0.18."""
    config = SentenceWriter(model_id=str(sentence_model), max_new_tokens=1, top_k=0)
    writer = TextWriter(config)
    texts = [text for start in range(0, 4000, 500) for text in writer.write(["dog"] * 500, range(start, start + 500))]
    encoded = writer._tokenizer("dog", return_tensors="pt")
    with torch.inference_mode():
        logits = writer._model(input_ids=encoded.input_ids, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
    said = {writer._tokenizer.decode([token]): p for token, p in enumerate(logits.softmax(-1).tolist())}
    words = {word: p for word, p in said.items() if not word.startswith("<")}
    assert sum(words.values()) > 0.5
    for word, probability in words.items():
        assert texts.count(word) / 4000 == pytest.approx(probability, abs=0.03)


def test_the_likeliest_tokens_alone_are_sampled(sentence_model):
    greedy = TextWriter(SentenceWriter(model_id=str(sentence_model), do_sample=False))
    narrow = TextWriter(SentenceWriter(model_id=str(sentence_model), top_k=1))
    assert set(narrow.write(["dog"] * 4, range(4))) == set(greedy.write(["dog"] * 4, range(4)))


def test_captions_are_of_their_images_in_any_batch(caption_model, pictures):
    for settings in ({"num_beams": 3}, {"num_beams": 1, "do_sample": True}):
        writer = TextWriter(Captioner(model_id=str(caption_model), max_new_tokens=6, **settings))
        texts = writer.write(pictures, range(6))
        assert texts == _one_by_one(writer, pictures, range(6))
        assert len(set(texts)) > 1
        assert all(text and "<" not in text for text in texts)


def test_a_prompt_before_the_caption_is_not_part_of_it(caption_model, pictures):
    told = TextWriter(Captioner(model_id=str(caption_model), prompt="a photo of", max_new_tokens=4))
    texts = told.write(pictures, range(6))
    assert all(len(text.split()) <= 4 for text in texts)
    assert texts != TextWriter(Captioner(model_id=str(caption_model), max_new_tokens=4)).write(pictures, range(6))


def test_a_model_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for config in (SentenceWriter(), Captioner(), SentenceWriter(model_id=str(tmp_path))):
        with pytest.raises(UserError) as caught:
            TextWriter(config)
        said = str(caught.value)
        assert said.startswith(f"prompt model '{config.model_id}' cannot be loaded: ")
        assert said.endswith(
            f"; fetch it with `hf download {config.model_id}` or give a local directory with safetensors weights"
        )
        assert "\n" not in said


def test_pickled_weights_are_refused(sentence_model, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(sentence_model, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"cannot be loaded: .*safetensors"):
        TextWriter(SentenceWriter(model_id=str(folder)))
