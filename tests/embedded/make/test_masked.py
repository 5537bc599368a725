"""Masks, targets and loss of the embedded Muse."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from syn_ray.embedded.make import masked
from syn_ray.embedded.make.codebook import CODES


def test_masks_follow_the_cosine_of_the_sampler():
    """As many tokens as are left at the steps of the sampler: it starts from all and keeps floor(cos(..) * 64)."""
    counts = masked.mask_counts(12, 64, start=0.0)
    assert counts.tolist() == [math.ceil(64 * math.cos(i / 12 * math.pi / 2) - 1e-4) for i in range(12)]
    many = masked.mask_counts(10_000, 10_000, start=0.5)
    assert (many / 10_000).mean().item() == pytest.approx(2 / math.pi, abs=1e-3)  # the mean of a quarter of a cosine
    assert masked.mask_counts(10, 64, start=1.0).min() == 1  # never nothing to learn


def test_a_mask_has_its_count_at_random_places():
    torch.manual_seed(0)
    masks = torch.stack([masked.draw_mask(16) for _ in range(200)])
    assert masks.shape == (200, 16, 8, 8)
    per_image = masks.flatten(2).sum(dim=2)
    assert per_image[:, 0].min() >= 63
    assert (per_image.diff(dim=1) <= 0).all()
    share = masks.float().mean(dim=(0, 1))  # 3,200 masks: s.e. of 0.009 a place
    assert share.std() < 0.02
    assert share.mean().item() == pytest.approx(2 / math.pi, abs=0.02)


def test_targets_are_distributions_mostly_of_the_code_itself_and_more_of_codes_alike():
    torch.manual_seed(0)
    codes = torch.randn(32, 4)
    codes[1] = codes[0] + 0.1
    targets = masked.smooth_targets(codes)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(32))
    assert (targets.argmax(dim=1) == torch.arange(32)).all()
    assert targets.min() >= masked.ANY_SHARE / 32
    far = torch.cdist(codes[:1], codes).argmax()
    assert targets[0, 1] > 5 * targets[0, far]


def test_the_loss_is_the_cross_entropy_of_masked_tokens_only():
    torch.manual_seed(0)
    logits, codes, mask = torch.randn(2, CODES, 8, 8), torch.randint(0, CODES, (2, 8, 8)), masked.draw_mask(2)
    targets = torch.eye(CODES)
    labels = codes.masked_fill(~mask, -100)
    expected = functional.cross_entropy(logits, labels, ignore_index=-100)
    torch.testing.assert_close(masked.masked_loss(logits, codes, mask, targets), expected)
    elsewhere = torch.where(mask[:, None], logits, torch.randn_like(logits))
    torch.testing.assert_close(masked.masked_loss(elsewhere, codes, mask, targets), expected)
