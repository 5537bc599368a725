"""The loop on the model classes against diffusers' own pipeline, fed the same noise: the same images to the byte."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from syn_ray.generate.masking import draw_noise, unmask, within_nucleus
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


def test_linear_guidance_begins_with_none_and_ends_with_all_of_it(tiny_config):
    config = tiny_config("muse", num_inference_steps=5, guidance_schedule="linear")
    assert [config.guidance_at(step, 3.0) for step in range(5)] == [1, 1.5, 2, 2.5, 3]
    assert tiny_config("muse", num_inference_steps=1, guidance_schedule="linear").guidance_at(0, 3.0) == 3
    assert [tiny_config("muse", num_inference_steps=5).guidance_at(step, 3.0) for step in (0, 4)] == [3, 3]


def test_a_step_without_guidance_runs_no_unconditional_pass(tiny_config):
    generator: Any = load_generator(tiny_config("muse", num_inference_steps=4, guidance_schedule="linear"))
    batches: list[int] = []
    generator._transformer.register_forward_pre_hook(lambda _, arguments: batches.append(len(arguments[0])))
    generator.generate(PROMPTS, SEEDS, 3.0)
    assert batches == [3, 6, 6, 6]


@pytest.mark.parametrize("changes", [{"guidance_schedule": "linear"}, {"guidance_top_p": 0.5}])
def test_how_guidance_acts_changes_guided_images_alone(tiny_config, changes):
    usual = load_generator(tiny_config("muse"))
    other = load_generator(tiny_config("muse", **changes))
    for scale, same in ((1.0, True), (6.0, False)):
        drawn = usual.generate(PROMPTS, SEEDS, scale), other.generate(PROMPTS, SEEDS, scale)
        assert np.array_equal(*drawn) == same


def test_guidance_chooses_within_the_nucleus_of_the_conditional_probabilities():
    """Of (.05, .6, .25, .1) the first two reach .7, the likeliest alone .6: what guidance says of the others is cut."""
    conditional = torch.tensor([0.05, 0.6, 0.25, 0.1]).log().reshape(1, 1, 4)
    guided = torch.tensor([9.0, 1.0, 2.0, 3.0]).reshape(1, 1, 4)
    kept = {top_p: within_nucleus(guided, conditional, top_p).isfinite()[0, 0] for top_p in (0.01, 0.5, 0.7, 0.9, 1.0)}
    assert {top_p: row.nonzero()[:, 0].tolist() for top_p, row in kept.items()} == {
        0.01: [1],
        0.5: [1],
        0.7: [1, 2],
        0.9: [1, 2, 3],
        1.0: [0, 1, 2, 3],
    }
    assert torch.equal(within_nucleus(guided, conditional, 0.7)[0, 0, [1, 2]], guided[0, 0, [1, 2]])
