"""A model trained on one grey channel is exactly the one that is saved for three."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from syn_ray.embedded.make.cascade import build_scheduler
from syn_ray.embedded.make.codebook import build_vq
from syn_ray.embedded.make.grey import NOISE_OF_MEAN, widen_autoencoder, widen_denoiser

SMALL = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (8, 8),
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "cross_attention_dim": 8,
    "attention_head_dim": 8,
    "norm_num_groups": 4,
}


@pytest.mark.parametrize("pictures", [1, 2], ids=["base", "upscaler"])
def test_a_widened_denoiser_takes_means_and_answers_with_three_equal_channels(pictures: int):
    torch.manual_seed(0)
    narrow = UNet2DConditionModel(in_channels=pictures, out_channels=1, **SMALL).eval()
    wide = widen_denoiser(narrow, UNet2DConditionModel(in_channels=3 * pictures, out_channels=6, **SMALL))
    noisy, timesteps, text = torch.randn(2, 3 * pictures, 8, 8), torch.tensor([5, 900]), torch.randn(2, 4, 8)
    means = noisy.view(2, pictures, 3, 8, 8).mean(dim=2)
    with torch.inference_mode():
        answer = wide(noisy, timesteps, text).sample
        expected = narrow(means, timesteps, text).sample
    torch.testing.assert_close(answer[:, :3], expected.expand(-1, 3, -1, -1), rtol=0, atol=1e-5)  # float32's rounding
    assert torch.equal(answer[:, 0], answer[:, 1])
    assert torch.equal(answer[:, 0], answer[:, 2])
    assert not answer[:, 3:].any()  # the variance that nobody reads


def test_a_widened_image_tokenizer_gives_the_same_latents_and_exactly_grey_pictures():
    torch.manual_seed(0)
    narrow = build_vq(colours=1).eval()
    wide = widen_autoencoder(narrow, build_vq(colours=3))
    images, codes = torch.rand(2, 1, 32, 32), torch.randint(0, 256, (2, 8, 8))
    with torch.inference_mode():
        latents = wide.encode(images.expand(-1, 3, -1, -1)).latents
        torch.testing.assert_close(latents, narrow.encode(images).latents, rtol=0, atol=1e-5)  # float32's rounding
        pictures = wide.decode(codes, force_not_quantize=True, shape=(2, 8, 8, 8)).sample
    assert torch.equal(pictures[:, 0], pictures[:, 1])
    assert torch.equal(pictures[:, 0], pictures[:, 2])


def test_the_mean_of_three_noises_is_as_strong_as_training_makes_it():
    torch.manual_seed(0)
    noise = torch.randn(1_000, 3, 10, 10).mean(dim=1)
    assert noise.std().item() == pytest.approx(NOISE_OF_MEAN, rel=0.01)  # 100,000 values: s.e. of 0.2%


# diffusers' solver turns tensors into arrays in numpy 1's way
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("steps", [4, 20])
def test_the_sampler_ends_with_the_clipped_prediction_whatever_the_noise_of_each_channel(steps: int):
    torch.manual_seed(0)
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    scheduler.set_begin_index(0)
    images = torch.randn(2, 3, 4, 4)
    for timestep in scheduler.timesteps:
        predicted = 1.5 * torch.randn(2, 1, 4, 4).expand(-1, 3, -1, -1)
        images = scheduler.step(predicted, timestep, images, return_dict=False)[0]
        assert images.isfinite().all()
    assert torch.equal(images, predicted.clamp(-1, 1))
