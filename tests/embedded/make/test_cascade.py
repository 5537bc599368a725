"""Noise and weights of the cascade's training are those of the pipelines that will draw with it."""

from __future__ import annotations

import pytest
import torch

from syn_ray.embedded.make import cascade
from syn_ray.embedded.make.grey import COLOURS


def test_the_weight_of_an_error_of_the_image_is_that_of_an_error_of_v():
    """v = a n - s x for a unit-variance mix a x + s n; a wrong x makes a wrong n, since their mix is seen."""
    alphas_cumprod = cascade.build_scheduler().alphas_cumprod.double()
    timesteps = torch.tensor([999, 800, 600, 400])
    signal = alphas_cumprod[timesteps]
    noise_variance = (1 - signal) / COLOURS
    a = (signal / (signal + noise_variance)).sqrt()
    s = (1 - a**2).sqrt()
    x, n, wrong_x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wrong_n = (a * x + s * n - a * wrong_x) / s
    error_of_v = ((a * wrong_n - s * wrong_x) - (a * n - s * x)) ** 2
    torch.testing.assert_close(cascade.weigh(timesteps, alphas_cumprod) * (wrong_x - x) ** 2, error_of_v)


def test_the_weight_has_an_end():
    alphas_cumprod = cascade.build_scheduler().alphas_cumprod
    weights = cascade.weigh(torch.arange(1000), alphas_cumprod)
    assert weights.max().item() == cascade.LARGEST_RATIO + 1
    assert (weights.diff() <= 0).all()  # never more for more noise


def test_noise_is_the_mean_of_the_noise_that_the_upscaler_pipeline_adds():
    torch.manual_seed(0)
    noising = cascade.build_noising_scheduler()
    level = torch.full((400,), 250)
    coloured = noising.add_noise(torch.full((400, 3, 16, 16), 0.5), torch.randn(400, 3, 16, 16), level).mean(dim=1)
    grey = cascade.add_noise(torch.full((400, 1, 16, 16), 0.5), level, noising.alphas_cumprod)
    torch.testing.assert_close(grey.mean(), coloured.mean(), rtol=0, atol=0.005)  # 102,400 values: s.e. of 0.0007
    torch.testing.assert_close(grey.std(), coloured.std(), rtol=0.02, atol=0)  # s.e. of 0.3%


def test_a_batch_has_timesteps_of_every_part_of_the_schedule():
    torch.manual_seed(0)
    for _ in range(20):
        timesteps = cascade.spread_timesteps(32, 1000)
        assert torch.equal(timesteps * 32 // 1000, torch.arange(32)) or (timesteps.diff() - 31.25).abs().max() < 1
        assert timesteps.min() >= 0
        assert timesteps.max() < 1000


def test_images_are_shrunk_by_their_means_and_enlarged_to_their_corners():
    images = torch.arange(1024.0).view(1, 1, 32, 32)
    small = cascade.shrink(images)
    assert small.shape == (1, 1, 16, 16)
    assert small[0, 0, 0, 0] == (0 + 1 + 32 + 33) / 4
    large = cascade.enlarge(small)
    assert large.shape == images.shape
    torch.testing.assert_close(large[..., [0, 0, -1, -1], [0, -1, 0, -1]], small[..., [0, 0, -1, -1], [0, -1, 0, -1]])


def test_the_denoisers_are_of_deepfloyds_kind_and_the_stages_share_their_text():
    base, upscaler = cascade.build_base(3).config, cascade.build_upscaler(3).config
    assert (base.in_channels, base.out_channels, base.sample_size) == (3, 6, 16)
    assert (upscaler.in_channels, upscaler.out_channels, upscaler.sample_size) == (6, 6, 32)
    assert base.encoder_hid_dim == upscaler.encoder_hid_dim
    assert upscaler.class_embed_type == "timestep"  # the noise level


# diffusers' solver turns tensors into arrays in numpy 1's way
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_with_the_best_possible_denoiser_ten_steps_draw_the_training_images_and_all_of_them():
    """The optimal denoiser of a few images is known: their mean, each weighted by how likely it made the noisy one.

    It sees what training shows, the mean of three channels with a third of the noise's variance. Schedule, solver,
    clipping and widening are right together if every sample is one of the images and each comes about as often.
    """
    torch.manual_seed(0)
    known = torch.randn(8, 16 * 16).sign() * 0.9
    scheduler = cascade.build_scheduler()
    scheduler.set_timesteps(10)
    scheduler.set_begin_index(0)
    images = torch.randn(400, 3, 16, 16)
    for timestep in scheduler.timesteps:
        signal = scheduler.alphas_cumprod[timestep]
        seen = images.mean(dim=1).flatten(1)
        distance = torch.cdist(seen, signal.sqrt() * known).square()
        likely = torch.softmax(-distance / (2 * (1 - signal) / COLOURS), dim=1)
        predicted = (likely @ known).view(-1, 1, 16, 16).expand(-1, 3, -1, -1)
        images = scheduler.step(predicted, timestep, images, return_dict=False)[0]
    away = torch.cdist(images[:, 0].flatten(1), known).square().amin(dim=1) / 256
    assert away.max() < 1e-5  # float32, squared: 3e-6 on some processors, below 1e-6 on others
    share = torch.cdist(images[:, 0].flatten(1), known).argmin(dim=1).bincount(minlength=8) / 400
    assert share.min() > 0.06  # 1/8 expected, s.e. 0.017
