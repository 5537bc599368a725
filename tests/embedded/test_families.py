"""The trained generators of all three families, as the study `embedded-families` draws by them."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from syn_ray import embedded
from syn_ray.embedded.captions import compose, measure
from syn_ray.generate.protocol import load_generator
from syn_ray.generate.render import make_renderer
from syn_ray.shards.decode import decode_image
from syn_ray.study.load import load_study

STUDY = load_study("embedded-families")
FAMILIES = sorted(STUDY.generators)
pytestmark = [
    pytest.mark.slow,
    # diffusers' solver turns tensors into arrays in numpy 1's way
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module", params=FAMILIES)
def generator(request):
    return load_generator(STUDY.generators[request.param])


@pytest.fixture(scope="module")
def classifier():
    return timm.create_model(f"local-dir:{embedded.asset_path('classifier')}", pretrained=True).eval()


def test_each_class_is_drawn_by_its_bare_name(generator, classifier):
    """Most of its images are seen as it: a "t-shirt" is not a "shirt"."""
    labels = np.repeat(np.arange(10), 3)
    generator.prepare(embedded.CLASS_NAMES)
    images = generator.generate([embedded.CLASS_NAMES[label] for label in labels], list(range(30)), 4.0)
    assert images.shape == (30, 32, 32, 3)
    assert np.ptp(images, axis=3).max() == 0
    with torch.inference_mode():
        seen = classifier(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).argmax(dim=1).numpy()
    assert [np.bincount(seen[labels == label]).argmax() for label in range(10)] == list(range(10))


def test_captions_say_how_bright(generator):
    """With the same noise "bright" is brighter than "dark", in nearly every class."""
    tones = [compose(tone, 1, 0, label) for tone in (0, 2) for label in range(10)]
    generator.prepare(tones)
    dark, bright = np.split(measure(generator.generate(tones, [*range(10), *range(10)], 2.0)[..., 0]), 2)
    assert (bright[:, 0] > dark[:, 0]).mean() >= 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_another_actors_generator_and_another_order_of_shards_give_the_same_bytes(family):
    """Each renderer loads a generator of its own, as each actor does, and draws the shards in an order of its own."""
    study = load_study("embedded-families", [f"generators.{family}.num_inference_steps=3"])
    (curve,) = [curve for curve in study.cells() if curve.name == f"{family}-captions-g4"]
    shards = [range(first, first + 3) for first in (0, 3)]
    drawn = []
    for order, batch_size in ((shards, 2), (shards[::-1], 2), (shards, 3)):
        renderer = make_renderer(curve.parts[0], load_generator(study.generators[family]))
        samples = [one for shard in order for one in renderer.render(shard[0], len(shard), batch_size, lambda _: None)]
        drawn.append(sorted(samples, key=lambda sample: sample.sample_index))
    assert [sample.sample_index for sample in drawn[0]] == list(range(6))
    assert drawn[0] == drawn[1]
    assert len({sample.image for sample in drawn[0]}) == 6
    first, other = (np.stack([decode_image(one.image) for one in samples]).astype(int) for samples in drawn[1:])
    assert np.abs(first - other).max() <= 1  # grey levels: float kernels sum in another order
