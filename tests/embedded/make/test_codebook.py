"""The image tokenizer's codebook follows what it stands for."""

from __future__ import annotations

import pytest
import torch

from syn_ray.embedded.make import codebook
from syn_ray.embedded.make.codebook import CODE_SIZE, CODEBOOK_DECAY, CODES, ImageTokenizer


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return ImageTokenizer(codebook.build_vq(colours=1)).eval()


def test_the_nearest_code_is_the_one_that_diffusers_finds(tokenizer):
    torch.manual_seed(0)
    tokenizer.codebook.normal_()
    latents = torch.randn(2, CODE_SIZE, 8, 8)
    with torch.inference_mode():
        quantised, _, (_, _, expected) = tokenizer.model.quantize(latents)
    found = codebook.nearest_codes(latents.permute(0, 2, 3, 1).reshape(-1, CODE_SIZE), tokenizer.codebook)
    assert torch.equal(found, expected)
    torch.testing.assert_close(tokenizer.codebook[found].view(2, 8, 8, CODE_SIZE), quantised.permute(0, 2, 3, 1))


def test_training_decodes_as_the_pipeline_does(tokenizer):
    tokenizer.codebook.normal_()
    codes = torch.randint(0, CODES, (2, 8, 8))
    with torch.inference_mode():
        ours = tokenizer.decode(tokenizer.codebook[codes])
        theirs = tokenizer.model.decode(codes, force_not_quantize=True, shape=(2, 8, 8, CODE_SIZE)).sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)  # float32's rounding in another memory layout


def test_kmeans_finds_separate_clouds_and_leaves_no_centre_idle():
    torch.manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0], [50.0, 50.0]])
    sizes = [2_000, 20, 20, 20, 20]  # most of the pictures are paper
    latents = torch.cat([m + 0.1 * torch.randn(n, 2) for m, n in zip(middles, sizes, strict=True)])
    centres = codebook.kmeans(latents, 6, rounds=12)
    assert torch.cdist(middles, centres).amin(dim=1).max() < 0.2
    assert torch.bincount(codebook.nearest_codes(latents, centres), minlength=6).min() > 0


def test_one_step_moves_counts_and_sums_by_the_decay(tokenizer):
    tokenizer.counts.fill_(10.0)
    tokenizer.sums.copy_(10.0 * torch.arange(CODES)[:, None].expand(-1, CODE_SIZE))
    latents = torch.full((30, CODE_SIZE), 4.0)
    tokenizer.follow(latents, torch.full((30,), 2), revive=False)
    counts = CODEBOOK_DECAY * 10 + (1 - CODEBOOK_DECAY) * 30
    sums = CODEBOOK_DECAY * 20 + (1 - CODEBOOK_DECAY) * 30 * 4
    assert tokenizer.counts[2].item() == pytest.approx(counts)
    torch.testing.assert_close(tokenizer.codebook[2], torch.full((CODE_SIZE,), sums / counts))
    torch.testing.assert_close(tokenizer.codebook[7], torch.full((CODE_SIZE,), 7.0))  # unused: it stays


def test_a_code_becomes_the_mean_of_what_chooses_it(tokenizer):
    torch.manual_seed(0)
    latents, codes = torch.randn(4_096, CODE_SIZE), torch.arange(4_096) % CODES
    for _ in range(600):
        tokenizer.follow(latents, codes, revive=False)
    means = latents.view(-1, CODES, CODE_SIZE).mean(dim=0)
    torch.testing.assert_close(tokenizer.codebook.clone(), means, rtol=0, atol=1e-4)  # 0.98**600 is 5e-6


def test_dead_codes_come_back_where_the_error_is(tokenizer):
    torch.manual_seed(0)
    tokenizer.begin(torch.randn(1_000, CODE_SIZE))
    tokenizer.counts[5] = 0.0
    served = tokenizer.codebook[9].clone().expand(50, -1)
    lost = torch.full((50, CODE_SIZE), 20.0)
    tokenizer.follow(torch.cat([served, lost]), torch.full((100,), 9), revive=True)
    torch.testing.assert_close(tokenizer.codebook[5], lost[0])
    assert tokenizer.counts[5] == pytest.approx(tokenizer.counts.mean().item(), rel=0.01)


def test_gradients_pass_the_codebook_and_leave_it_alone(tokenizer):
    tokenizer.begin(torch.randn(1_000, CODE_SIZE))
    loss = codebook.tokenizer_loss(tokenizer, torch.rand(2, 1, 32, 32), progress=0.5)
    loss.backward()
    assert tokenizer.codebook.grad is None
    assert tokenizer.model.encoder.conv_in.weight.grad.abs().sum() > 0
    assert tokenizer.model.decoder.conv_out.weight.grad.abs().sum() > 0
