"""Augmentation that belongs to the visit, not to the worker: every draw is fixed by (seed, sample index, visit).

So a sample is cropped and flipped alike whatever the number of workers, the batch or the restart. Crops and flips work
on uint8 where images are read; erasing and mixing on the normalised batch, on the training device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms import v2

from syn_ray.core.seeds import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from syn_ray.train.config import AugmentConfig

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_bits(
    seed: int, sample_index: npt.NDArray[np.int64], visit: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.uint64]:
    """Random 64-bit numbers [samples, count], each a hash of (seed, sample_index, visit, column).

    A counter-based generator (the finaliser of SplitMix64, Steele et al. 2014) in numpy: one call draws for a whole
    batch, where seeding an rng for each sample costs more than the rest of the augmentation.
    """
    state = _mix(np.asarray(sample_index).astype(np.uint64) ^ np.uint64(seed))
    state = _mix(state + np.asarray(visit).astype(np.uint64) * _GOLDEN)
    return _mix(state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def as_uniform(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """64 random bits as numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shift_and_flip(
    images: torch.Tensor, uniform: npt.NDArray[np.float64], shift_px: int, flip_probability: float
) -> torch.Tensor:
    """Moves each image by at most `shift_px` each way (zeros come in) and mirrors some: one gather for the batch.

    Args:
        images: uint8 [images, 3, height, width].
        uniform: draws in [0, 1), at least [images, 3]: down, right, mirrored.
        shift_px: the largest move.
        flip_probability: share of images that are mirrored.
    """
    number, channels, height, width = images.shape
    move = torch.from_numpy((uniform[:, :2] * (2 * shift_px + 1)).astype(np.int64))
    mirrored = torch.from_numpy(uniform[:, 2] < flip_probability)
    rows = torch.arange(height) + move[:, :1]
    columns = torch.arange(width).expand(number, -1)
    columns = torch.where(mirrored[:, None], width - 1 - columns, columns) + move[:, 1:2]
    padded = torch.nn.functional.pad(images, (shift_px,) * 4).flatten(2)
    places = rows[:, :, None] * (width + 2 * shift_px) + columns[:, None, :]
    return padded.gather(2, places.view(number, 1, -1).expand(-1, channels, -1)).view_as(images)


def image_transform(config: AugmentConfig, image_px: int) -> v2.Compose | None:
    """What torchvision does to one uint8 image: inception crop and flip, RandAugment. None where that is nothing."""
    steps: list[torch.nn.Module] = []
    if config.crop == "random_resized":
        steps.append(v2.RandomResizedCrop(image_px, scale=config.crop_scale, antialias=True))
        steps.append(v2.RandomHorizontalFlip(config.flip_probability))
    if config.rand_augment_ops:
        steps.append(v2.RandAugment(config.rand_augment_ops, config.rand_augment_magnitude))
    return v2.Compose(steps) if steps else None


def transform_each(
    transform: v2.Compose, images: Iterable[torch.Tensor], bits: npt.NDArray[np.uint64]
) -> list[torch.Tensor]:
    """Applies a transform to each image under that image's own seed, and leaves torch's global rng as it was."""
    done = []
    with torch.random.fork_rng(devices=[]):
        for image, seed in zip(images, bits, strict=True):
            torch.manual_seed(int(seed >> np.uint64(1)))
            done.append(transform(image))
    return done


def erase(images: torch.Tensor, uniform: torch.Tensor, probability: float) -> torch.Tensor:
    """Sets a random rectangle (2% to 33% of the area, sides 1:3 to 3:1) of some images to zero, the normalised grey.

    Args:
        images: float [images, 3, height, width].
        uniform: draws in [0, 1), [images, 5]: erased or not, area, shape, row, column.
        probability: share of images that are erased.

    Source: Zhong et al. 2017, Random Erasing, with torchvision's default ranges; drawn per sample, for the whole batch.
    """
    height, width = images.shape[-2:]
    chosen, area, shape, row, column = uniform.to(images.device, torch.float32).unbind(1)
    area = 0.02 + area * (0.33 - 0.02)
    ratio = torch.exp((shape * 2 - 1) * np.log(3.0))
    box_height = (area * ratio).sqrt().clamp(max=1) * height
    box_width = (area / ratio).sqrt().clamp(max=1) * width
    top, left = row * (height - box_height), column * (width - box_width)
    box = torch.stack([top, top + box_height, left, left + box_width], 1).round()
    inside = _box_mask(box, height, width) & (chosen < probability)[:, None, None]
    return images.masked_fill(inside[:, None], 0.0)


class PairMix(NamedTuple):
    """How the pairs of a batch (positions 2j and 2j+1) are mixed; tensors of length pairs."""

    weight: torch.Tensor
    """What each image keeps of itself in mixup; for cutmix the share of the area."""
    box: torch.Tensor
    """float [pairs, 4]: top, bottom, left, right as fractions; the part exchanged by cutmix, empty for mixup."""


def draw_pair_mix(config: AugmentConfig, seed: int, step: int, batch_size: int) -> PairMix:
    """The mixing of a whole global batch, from seed and step alone; a worker takes its slice."""
    pairs = batch_size // 2
    rng = np.random.Generator(np.random.Philox(derive_seed(seed, "mix", step)))
    uses_cutmix = rng.random(pairs) < _cutmix_share(config)
    mixup = rng.beta(config.mixup_alpha or 1.0, config.mixup_alpha or 1.0, pairs)
    cutmix = rng.beta(config.cutmix_alpha or 1.0, config.cutmix_alpha or 1.0, pairs)
    side = np.sqrt(1 - cutmix)
    top, left = rng.random(pairs) * (1 - side), rng.random(pairs) * (1 - side)
    box = np.stack([top, top + side, left, left + side], 1) * uses_cutmix[:, None]
    weight = np.where(uses_cutmix, cutmix, mixup)
    return PairMix(torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(box.astype(np.float32)))


def mix_pairs(images: torch.Tensor, targets: torch.Tensor, mix: PairMix) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixes each pair both ways, images and soft targets alike.

    Source: Zhang et al. 2018 (mixup); Yun et al. 2019 (cutmix; the box is drawn inside the image, and the targets take
    the area that is exchanged after rounding to pixels).
    """
    height, width = images.shape[-2:]
    size = torch.tensor([height, height, width, width], device=images.device)
    box = (mix.box.to(images.device) * size).round()
    exchanged = _box_mask(box, height, width)[:, None]
    is_cutmix = mix.box.to(images.device).any(1)
    weight = mix.weight.to(images.device)[:, None, None, None]
    own = torch.where(is_cutmix[:, None, None, None], (~exchanged).to(images.dtype), weight)
    own = own.expand(-1, 1, height, width)
    first, second = images[0::2], images[1::2]
    mixed = torch.stack([own * first + (1 - own) * second, own * second + (1 - own) * first], 1).flatten(0, 1)
    share = own.mean(dim=(1, 2, 3))[:, None]
    one, two = targets[0::2], targets[1::2]
    return mixed, torch.stack([share * one + (1 - share) * two, share * two + (1 - share) * one], 1).flatten(0, 1)


def soft_targets(labels: torch.Tensor, num_classes: int, label_smoothing: float) -> torch.Tensor:
    """One-hot rows, smoothed: float [images, num_classes], each summing to 1."""
    one_hot = torch.nn.functional.one_hot(labels, num_classes).float()
    return one_hot * (1 - label_smoothing) + label_smoothing / num_classes


def _box_mask(box: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A mask [boxes, height, width], true inside [top, bottom) x [left, right) given in pixels."""
    row, column = torch.arange(height, device=box.device), torch.arange(width, device=box.device)
    in_rows = (row >= box[:, 0:1]) & (row < box[:, 1:2])
    in_columns = (column >= box[:, 2:3]) & (column < box[:, 3:4])
    return in_rows[:, :, None] & in_columns[:, None, :]


def _cutmix_share(config: AugmentConfig) -> float:
    if not config.cutmix_alpha:
        return 0.0
    return 0.5 if config.mixup_alpha else 1.0
