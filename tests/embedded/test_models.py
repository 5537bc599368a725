"""The shipped models load without a network and do what they are for."""

from __future__ import annotations

import json

import numpy as np
import open_clip
import pytest
import timm
import torch
from diffusers import DiffusionPipeline

from syn_ray import embedded
from syn_ray.datasets.config import EmbeddedImages
from syn_ray.datasets.real import open_images
from syn_ray.embedded.captions import compose, measure
from syn_ray.shards.decode import decode_image


@pytest.fixture(scope="module")
def pipeline():
    loaded = DiffusionPipeline.from_pretrained(
        embedded.asset_path("stable-diffusion"),
        dtype=torch.float32,
        local_files_only=True,
        low_cpu_mem_usage=False,
        safety_checker=None,
        requires_safety_checker=False,
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def classifier():
    return timm.create_model(f"local-dir:{embedded.asset_path('classifier')}", pretrained=True).eval()


def draw(pipeline, prompts: list[str], guidance_scale: float) -> np.ndarray:
    """Grey levels [n, 32, 32, 3] from 0 to 255."""
    rngs = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    with torch.inference_mode():
        images = pipeline(
            prompts,
            guidance_scale=guidance_scale,
            num_inference_steps=10,
            height=32,
            width=32,
            generator=rngs,
            output_type="np",
        ).images
    return np.asarray(images) * 255


@pytest.mark.slow
def test_images_are_grey_and_mostly_of_the_class_asked_for(pipeline, classifier):
    """By its bare name, each class: a "t-shirt" is not a "shirt"."""
    labels = np.repeat(np.arange(10), 6)
    images = draw(pipeline, [embedded.CLASS_NAMES[label] for label in labels], guidance_scale=4.0)
    assert images.shape == (60, 32, 32, 3)
    assert (images[..., 0] == images[..., 1]).all()
    assert (images[..., 0] == images[..., 2]).all()
    with torch.inference_mode():
        seen = classifier(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).argmax(dim=1).numpy()
    assert [np.bincount(seen[labels == label]).argmax() for label in range(10)] == list(range(10))


@pytest.mark.slow
def test_text_controls_tone_and_shape(pipeline):
    """With the same noise, "bright" is brighter than "dark" and "wide" wider than "slim", in nearly every class."""
    pairs = [(compose(0, 0, 0, c), compose(2, 2, 0, c)) for c in range(10)]
    dark, bright = (
        measure(draw(pipeline, [pair[i] for pair in pairs], guidance_scale=2.0)[..., 0].round().astype(np.uint8))
        for i in (0, 1)
    )
    assert (bright[:, 0] > dark[:, 0]).mean() >= 0.9
    assert (bright[:, 1] > dark[:, 1]).mean() >= 0.9


def test_every_template_fits_the_text_encoder(pipeline):
    """No prompt is cut: the tokenizer keeps every word of the 80 templates."""
    prompts = [template(name) for template in open_clip.OPENAI_IMAGENET_TEMPLATES for name in embedded.CLASS_NAMES]
    lengths = [len(ids) for ids in pipeline.tokenizer(prompts).input_ids]
    assert (
        min(lengths)
        < max(lengths)
        <= pipeline.tokenizer.model_max_length
        == pipeline.text_encoder.config.max_position_embeddings
    )


def test_unknown_words_are_split_not_lost(pipeline):
    tokens = pipeline.tokenizer.convert_ids_to_tokens(pipeline.tokenizer("a zebra").input_ids)
    assert "".join(tokens[1:-1]).replace("</w>", " ") == "a zebra "


def test_the_models_are_small(pipeline, classifier):
    parts = (pipeline.vae, pipeline.unet, pipeline.text_encoder)
    assert sum(p.numel() for part in parts for p in part.parameters()) < 3.5e6
    assert sum(p.numel() for p in classifier.parameters()) < 1e6


def test_the_adversarial_set_is_what_the_classifier_gets_wrong(classifier):
    """And nothing else: on the first thousand validation images, the listed ones are its mistakes."""
    val = open_images(EmbeddedImages(name="val"))
    images = torch.stack([decode_image(real.image) for real in val.read(range(1_000))])
    with torch.inference_mode():
        seen = classifier(images / 127.5 - 1).argmax(dim=1).numpy()
    listed = json.loads((embedded.asset_path("classifier") / "adversarial.json").read_text())
    assert np.flatnonzero(seen != val.labels[:1_000]).tolist() == [index for index in listed if index < 1_000]


@pytest.mark.parametrize("name", ["sketch", "rendition"])
def test_shifted_sets_are_hard_and_not_hopeless(classifier, name: str):
    shifted = open_images(EmbeddedImages(name=name))
    images = torch.stack([decode_image(real.image) for real in shifted.read(range(500))])
    with torch.inference_mode():
        seen = classifier(images / 127.5 - 1).argmax(dim=1).numpy()
    assert 0.3 < (seen == shifted.labels[:500]).mean() < 0.85
