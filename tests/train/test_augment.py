from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from syn_ray.train.augment import (
    PairMix,
    as_uniform,
    draw_bits,
    draw_pair_mix,
    erase,
    mix_pairs,
    shift_and_flip,
    soft_targets,
)
from syn_ray.train.config import AugmentConfig
from syn_ray.train.data import StepBatches


def test_draws_are_uniform_and_belong_to_sample_and_visit():
    samples, visits = np.arange(20_000), np.zeros(20_000, dtype=np.int64)
    draws = as_uniform(draw_bits(7, samples, visits, 4))
    assert draws.min() >= 0
    assert draws.max() < 1
    # 5 standard errors of a mean and of a correlation of 20,000 uniform draws
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=5 * np.sqrt(1 / 12 / 20_000))
    other = as_uniform(draw_bits(7, samples, visits + 1, 4))
    reseeded = as_uniform(draw_bits(8, samples, visits, 4))
    columns = np.concatenate([draws, other, reseeded], 1)
    correlation = np.corrcoef(columns, rowvar=False) - np.eye(12)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    assert np.abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 5 / np.sqrt(20_000)
    np.testing.assert_array_equal(draws[[5, 17]], as_uniform(draw_bits(7, samples[[5, 17]], visits[[5, 17]], 4)))


def test_shift_and_flip_against_a_loop():
    images = torch.randint(1, 255, (50, 3, 6, 9), dtype=torch.uint8)
    uniform = np.random.default_rng(0).random((50, 3))
    moved = shift_and_flip(images, uniform, 2, 0.5)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for number, (down, right, mirrored) in enumerate(uniform):
        top, left = int(down * 5), int(right * 5)
        window = padded[number, :, top : top + 6, left : left + 9]
        assert torch.equal(moved[number], window.flip(-1) if mirrored < 0.5 else window)
    assert torch.equal(shift_and_flip(images, uniform, 0, 0.0), images)


def test_erased_rectangles():
    images = torch.ones(400, 3, 32, 32)
    uniform = torch.rand(400, 5, generator=torch.Generator().manual_seed(0))
    gone = (erase(images, uniform, 0.25) == 0).float()
    area = gone[:, 0].mean((1, 2))
    assert ((area > 0) == (uniform[:, 0] < 0.25)).all()
    assert 0.01 < area[area > 0].min() < area.max() < 0.4  # 0.02 to 0.33 before rounding to pixels
    for erased in gone[area > 0][:, 0]:
        rows, columns = erased.any(1).sum(), erased.any(0).sum()
        assert erased.sum() == rows * columns  # a rectangle
        assert 0.2 < rows / columns < 5
    assert torch.equal(erase(images, uniform, 0.0), images)


@pytest.mark.parametrize("alphas", [(0.5, 0.0), (0.0, 1.0), (0.5, 1.0)])
def test_mixing_keeps_targets_and_pixels_in_step(alphas):
    config = AugmentConfig(mixup_alpha=alphas[0], cutmix_alpha=alphas[1])
    labels = torch.arange(64) % 10
    # Each image is the constant of its class's one-hot: then the mean over pixels of a mixed image is its target.
    targets = soft_targets(labels, 10, 0.0)
    images = targets[:, :, None, None].expand(-1, -1, 16, 16).clone()
    mix = draw_pair_mix(config, seed=1, step=5, batch_size=64)
    mixed, soft = mix_pairs(images, targets, mix)
    torch.testing.assert_close(mixed.mean((2, 3)), soft, rtol=0, atol=1e-5)  # float32 sums of 256 pixels
    torch.testing.assert_close(soft.sum(1), torch.ones(64))
    assert (soft.sort(descending=True).values[:, 0] < 0.999).float().mean() > 0.5
    torch.testing.assert_close(soft[0::2] + soft[1::2], targets[0::2] + targets[1::2])
    blended = ((mixed > 0.001) & (mixed < 0.999)).any(3).any(2).any(1)
    assert bool(blended.any()) == bool(alphas[0])  # cutmix alone leaves every pixel whole
    assert bool(mix.box.any()) == bool(alphas[1])


def test_cutmix_exchanges_one_box():
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    mix = PairMix(torch.tensor([0.75]), torch.tensor([[0.25, 0.75, 0.5, 1.0]]))
    mixed, soft = mix_pairs(images, torch.eye(2), mix)
    expected = torch.zeros(8, 8)
    expected[2:6, 4:8] = 1
    assert torch.equal(mixed[0], expected.expand(3, 8, 8))
    assert torch.equal(mixed[1], 1 - expected.expand(3, 8, 8))
    torch.testing.assert_close(soft, torch.tensor([[0.75, 0.25], [0.25, 0.75]]))


def test_smoothed_targets():
    soft = soft_targets(torch.tensor([1, 0]), 4, 0.2)
    torch.testing.assert_close(soft, torch.tensor([[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]]))


AUGMENTS = {
    "shift": {"crop": "shift", "shift_px": 2, "mixup_alpha": 0.4, "erase_probability": 0.5},
    "shift, then RandAugment": {"crop": "shift", "rand_augment_ops": 1},
    "random_resized": {"crop": "random_resized", "rand_augment_ops": 2, "mixup_alpha": 0.4, "cutmix_alpha": 1.0},
}


@pytest.mark.parametrize("name", AUGMENTS)
def test_batches_do_not_depend_on_workers_cache_or_loader(name, make_config, make_source):
    config = make_config(augment=AUGMENTS[name])
    source = make_source(20)

    def batches(rank=0, world_size=1, cache_bytes=10**9):
        return StepBatches(config, source, 5, rank=rank, world_size=world_size, cache_bytes=cache_bytes)

    alone = [batches()[step] for step in range(3)]
    before = torch.random.get_rng_state()
    shared = [[batches(rank, 4, cache_bytes=0)[step] for rank in range(4)] for step in range(3)]
    assert torch.equal(torch.random.get_rng_state(), before)
    for whole, parts in zip(alone, shared, strict=True):
        for field in ("images", "labels", "erasing"):
            assert torch.equal(torch.cat([getattr(part, field) for part in parts]), getattr(whole, field)), field
        for field in ("weight", "box"):
            assert torch.equal(torch.cat([getattr(part.mix, field) for part in parts]), getattr(whole.mix, field))
    for whole, loaded in zip(alone[1:], batches().loader(1, 3, 2, pin_memory=False), strict=True):
        assert torch.equal(loaded.images, whole.images)
        assert torch.equal(loaded.mix.box, whole.mix.box)


def test_a_visit_is_augmented_alike_at_any_dataset_size(make_config, make_source):
    """Sample 3 on its first visit: the same pixels in the dataset of 8 and of 24, in whatever batch it comes."""
    config = make_config(batch_size=8, augment={"mixup_alpha": 0.0})
    seen = []
    for size in (8, 24):
        batches = StepBatches(config, make_source(24).slice(0, size), 5, rank=0, world_size=1, cache_bytes=10**9)
        first_epoch = [(batches._order.at(step).rows, batches[step].images) for step in range(size // 8)]
        seen += [images[list(rows).index(3)] for rows, images in first_epoch if 3 in rows]
        later = [(batches._order.at(step).rows, batches[step].images) for step in range(size // 8, 2 * size // 8)]
        seen += [images[list(rows).index(3)] for rows, images in later if 3 in rows]
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])  # another visit, another crop


def test_equal_images_are_augmented_apart(make_config, make_source):
    """Sixteen samples that hold one picture: each is moved by its own draw."""
    source = make_source(16)
    picture = pa.concat_arrays([source["image"].chunk(0).slice(0, 1)] * 16)
    same = source.set_column(1, "image", picture)
    config = make_config(augment={"shift_px": 4, "mixup_alpha": 0.0})  # 9 x 9 x 2 outcomes
    images = StepBatches(config, same, 5, rank=0, world_size=1, cache_bytes=10**9)[0].images
    assert len(images.flatten(1).unique(dim=0)) >= 14
