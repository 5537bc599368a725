"""What every family promises of its images, on tiny random models of the true architectures."""

from typing import Any

import numpy as np
import pytest
import torch

from syn_ray.core.resources import GenerateResources
from syn_ray.generate.protocol import load_generator as load

FAMILIES = ("stable_diffusion", "imagen", "muse")
PROMPTS = ["a bag", "a dark slim coat", "a bag"]
SEEDS = [11, 12, 13]
TOLERANCE = 1
"""Grey levels by which another batch size may change an image: float kernels sum in another order."""


def _load(*arguments) -> Any:
    """A generator whose inside is looked at."""
    return load(*arguments)


@pytest.fixture(scope="module")
def generators(tiny_config):
    loaded = {}

    def generator(family):
        if family not in loaded:
            loaded[family] = _load(tiny_config(family))
        return loaded[family]

    return generator


def _denoisers(generator):
    """The models that run once a step."""
    if hasattr(generator, "_stage_1"):
        return [generator._stage_1.unet, generator._stage_2.unet]
    return [generator._transformer if hasattr(generator, "_transformer") else generator._pipeline.unet]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_fixed_by_prompt_and_seed_in_any_batch(generators, family):
    generator = generators(family)
    together = generator.generate(PROMPTS, SEEDS, 2.0)
    assert together.dtype == np.uint8
    assert together.std(axis=(1, 2, 3)).min() > 0
    assert np.array_equal(generator.generate(PROMPTS, SEEDS, 2.0), together)
    alone = np.concatenate([generator.generate([p], [s], 2.0) for p, s in zip(PROMPTS, SEEDS, strict=True)])
    assert np.abs(alone.astype(int) - together).max() <= TOLERANCE
    backward = generator.generate(PROMPTS[::-1], SEEDS[::-1], 2.0)[::-1]
    assert np.abs(backward.astype(int) - together).max() <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_seed_prompt_and_guidance_each_change_the_image(generators, family):
    generator = generators(family)
    images = [
        generator.generate([prompt], [seed], scale)
        for prompt, seed, scale in [("a bag", 1, 2.0), ("a bag", 2, 2.0), ("a coat", 1, 2.0), ("a bag", 1, 7.5)]
    ]
    assert len({image.tobytes() for image in images}) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_one_runs_no_unconditional_pass(tiny_config, family):
    plain = {"super_resolution_guidance_scale": 1.0} if family == "imagen" else {}
    generator = _load(tiny_config(family, **plain))
    batches: list[int] = []
    for denoiser in _denoisers(generator):
        denoiser.register_forward_pre_hook(lambda _, arguments, batches=batches: batches.append(len(arguments[0])))
    generator.generate(["a bag"] * 3, [1, 2, 3], 1.0)
    unguided = list(batches)
    batches.clear()
    generator.generate(["a bag"] * 3, [1, 2, 3], 1.5)
    assert set(unguided) == {3}
    assert len(batches) == len(unguided)
    assert max(batches) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_preparing_prompts_changes_nothing_and_encodes_each_once(tiny_config, generators, family):
    generator = _load(tiny_config(family))
    encoder = generator._text_encoder if family == "muse" else None
    asked = []
    if encoder is not None:
        encoder.register_forward_pre_hook(lambda *_: asked.append(1))
    generator.prepare(PROMPTS)
    images = generator.generate(PROMPTS, SEEDS, 2.0)
    assert np.array_equal(images, generators(family).generate(PROMPTS, SEEDS, 2.0))
    if encoder is not None:
        assert len(asked) == len(set(PROMPTS)) + 1  # and the empty prompt


@pytest.mark.slow
@pytest.mark.parametrize("where", ["host", "reload", "device"])
def test_the_t5_is_gone_before_the_unets_run_wherever_it_waits(tiny_config, generators, where):
    generator = _load(tiny_config("imagen"), GenerateResources(text_encoder=where))
    seen = []
    generator._stage_1.unet.register_forward_pre_hook(lambda *_: seen.append(generator._stage_1.text_encoder))
    images = generator.generate(PROMPTS, SEEDS, 2.0)
    assert set(seen) == {None}
    assert (generator._text_encoder is None) == (where == "reload")
    assert np.array_equal(images, generators("imagen").generate(PROMPTS, SEEDS, 2.0))
    generator.prepare(["a new prompt"])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_settings_for_speed_change_the_last_bit_at_most(tiny_config, generators, family):
    resources = GenerateResources(channels_last=True, vae_slicing=True)
    images = _load(tiny_config(family), resources).generate(PROMPTS, SEEDS, 2.0)
    assert np.abs(images.astype(int) - generators(family).generate(PROMPTS, SEEDS, 2.0)).max() <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_values_that_are_not_finite_give_a_black_image(tiny_config, family):
    generator = _load(tiny_config(family))
    if family == "muse":
        torch.nn.init.constant_(generator._decoder.decoder.conv_out.bias, float("nan"))
    else:
        torch.nn.init.constant_(_denoisers(generator)[-1].conv_out.bias, float("nan"))
    assert not generator.generate(["a bag"], [1], 2.0).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_provenance_names_model_sampler_licence_and_watermark(tiny_config, family):
    (known := _load(tiny_config(family)).provenance()).pop("versions")
    assert {"family", "pipeline", "model_id", "revision", "licence", "scheduler_config", "dtype", "device"} <= set(
        known
    )
    assert known["family"] == family
    assert known["licence"] == "not stated"
    expected = {
        "stable_diffusion": ("StableDiffusionPipeline", "DDIMScheduler", "none"),
        "imagen": ("IFPipeline", "DDPMScheduler", "off"),
        "muse": ("AmusedPipeline", "AmusedScheduler", "none"),
    }
    assert (known["pipeline"], known["scheduler"], known["watermark"]) == expected[family]
