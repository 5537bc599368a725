"""The loop on the model classes against diffusers' own pipeline, fed the same noise: the same images to the byte."""

import diffusers
import numpy as np
import pytest
import torch

from syn_ray.generate.masking import draw_noise, unmask
from syn_ray.generate.protocol import load_generator, to_pixels

PROMPTS = ["a bag", "a dark slim coat", "a sandal"]
SEEDS = [1, 2, 3]


class PerImageScheduler(diffusers.AmusedScheduler):  # type: ignore[misc]  # diffusers is read as Any
    """diffusers' scheduler, asked for one image after the other, each with its own rng."""

    def step(self, model_output, timestep, sample, generator):
        outputs = [
            super(PerImageScheduler, self).step(model_output[i : i + 1], timestep, sample[i : i + 1], generator=rng)
            for i, rng in enumerate(generator)
        ]
        return type(outputs[0])(torch.cat([output.prev_sample for output in outputs]))


@pytest.fixture(scope="module")
def pipeline(tiny):
    diffusers.logging.set_verbosity_error()  # the class says that it is deprecated
    pipeline = diffusers.AmusedPipeline.from_pretrained(tiny("muse"), local_files_only=True, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _stock(pipeline, config, prompts, rng, guidance_scale):
    images = pipeline(
        prompts,
        negative_prompt=[config.negative_prompt] * len(prompts),
        num_inference_steps=config.num_inference_steps,
        guidance_scale=guidance_scale,
        temperature=config.temperature,
        generator=rng,
        output_type="np",
    ).images
    return to_pixels(images)


@pytest.mark.parametrize("guidance_scale", [1.0, 1.5, 10.0])
@pytest.mark.parametrize(("steps", "temperature"), [(1, (2.0, 0.0)), (5, (2.0, 0.0)), (5, 3.0), (12, (0.0, 4.0))])
def test_an_image_alone_is_the_pipelines_with_the_same_rng(tiny_config, pipeline, steps, temperature, guidance_scale):
    """Nothing is injected: alone, sample and pipeline draw the same numbers in the same order."""
    config = tiny_config("muse", num_inference_steps=steps, temperature=temperature, negative_prompt="a coat")
    ours = load_generator(config).generate(PROMPTS[:1], SEEDS[:1], guidance_scale)
    stock = _stock(pipeline, config, PROMPTS[:1], torch.Generator().manual_seed(SEEDS[0]), guidance_scale)
    assert np.array_equal(ours, stock)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
@pytest.mark.parametrize("temperature", [(2.0, 0.0), 1.0])
def test_a_batch_is_the_pipelines_fed_each_images_own_noise(tiny_config, pipeline, temperature, guidance_scale):
    config = tiny_config("muse", num_inference_steps=4, temperature=temperature)
    ours = load_generator(config).generate(PROMPTS, SEEDS, guidance_scale)
    own = pipeline.scheduler
    pipeline.scheduler = PerImageScheduler.from_config(own.config)
    try:
        rngs = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        stock = _stock(pipeline, config, PROMPTS, rngs, guidance_scale)
    finally:
        pipeline.scheduler = own
    assert np.array_equal(ours, stock)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_tokens_are_unmasked_in_fewer_and_fewer_and_known_ones_stay(schedule):
    rngs = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    logits = torch.randn(2, 16, 8, generator=rngs[0])
    tokens = torch.full((2, 16), 8)
    left = []
    for step in range(4):
        before = tokens
        tokens = unmask(
            logits,
            tokens,
            draw_noise(rngs, 16, 8),
            step=step,
            temperatures=torch.linspace(2, 0, 4),
            mask_token=8,
            schedule=schedule,
        )
        known = before != 8
        assert torch.equal(tokens[known], before[known])
        left.append((tokens == 8).sum(dim=1).tolist())
    expected = {"cosine": [14, 11, 6, 0], "linear": [12, 8, 4, 0]}[schedule]
    assert left == [[n, n] for n in expected]


def test_a_drawn_token_follows_the_probabilities():
    """20,000 draws from (.7, .2, .1): the shares agree within four standard errors."""
    rng = torch.Generator().manual_seed(0)
    noise = draw_noise([rng], 20_000, 3)
    logits = torch.tensor([0.7, 0.2, 0.1]).log().expand(1, 20_000, 3)
    unknown = torch.full((1, 20_000), 3)
    drawn = unmask(logits, unknown, noise, step=0, temperatures=torch.zeros(1), mask_token=3, schedule="cosine")
    shares = torch.bincount(drawn[0], minlength=3) / 20_000
    assert torch.allclose(shares, torch.tensor([0.7, 0.2, 0.1]), atol=4 * (0.21 / 20_000) ** 0.5)
