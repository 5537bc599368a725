from __future__ import annotations

import math
from typing import Any

import open_clip
import pytest
import torch

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.shards.decode import normalize
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.clip import train_clip
from syn_ray.train.clip_model import create_clip
from syn_ray.train.contrast import Contrast
from syn_ray.train.execution import Execution
from syn_ray.train.image_text import PairBatch


def contrast(config) -> Contrast:
    return Contrast(config, 0, torch.device("cpu"), gradient_checkpointing=False)


def random_batch(pairs: int) -> PairBatch:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (pairs, 3, 16, 16), dtype=torch.uint8, generator=rng)
    words = torch.randint(1, 49405, (pairs, 8), generator=rng)
    words[:, 5] = 49407  # the end of the text, whose place is read
    return PairBatch(images, words.int())


def gradients(objective: Contrast, batch: PairBatch) -> tuple[float, dict[str, torch.Tensor]]:
    objective.optimizer.zero_grad()
    torch.manual_seed(11)
    loss = objective.backward(batch, 11).item()
    return loss, {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_parts_give_the_gradients_of_the_whole_batch(make_clip_config, loss):
    batch = random_batch(32)
    whole_loss, whole = gradients(contrast(make_clip_config(loss=loss)), batch)
    for size in (8, 5, 31, 32):  # four parts; a last one that is smaller
        part_loss, parts = gradients(contrast(make_clip_config(loss=loss, micro_batch_size=size)), batch)
        assert part_loss == pytest.approx(whole_loss, rel=1e-6)  # float32; other batch shapes round otherwise
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            # Float32 sums in another order: ten times what was found, of the tensor's largest.
            atol = 1e-5 * gradient.abs().max().item()
            torch.testing.assert_close(parts[name], gradient, rtol=0, atol=atol)


def test_both_passes_of_a_part_drop_the_same(make_clip_config):
    """With patch dropout: the gradients of a loss whose features came from the very same passes."""
    config = make_clip_config(micro_batch_size=8, model_cfg={"vision_cfg": {"patch_dropout": 0.5}})
    objective, batch = contrast(config), random_batch(16)
    _, found = gradients(objective, batch)
    outputs = [
        objective._part(objective.model, part, 11, number)
        for number, part in enumerate(zip(batch.images.split(8), batch.tokens.split(8), strict=True))
    ]
    images, texts = (torch.cat(column) for column in list(zip(*outputs, strict=True))[:2])
    loss = open_clip.ClipLoss()(images, texts, outputs[0][2])
    expected = torch.autograd.grad(loss, [*objective.model.parameters()])
    for (name, _), gradient in zip(objective.model.named_parameters(), expected, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)  # float32 sums in another order


def test_open_clips_accumulation_counts_the_logit_scale_once_for_each_part(make_clip_config):
    """Why its `accum_freq` is not used here: with four parts the logit scale's gradient is four times as large."""
    batch = random_batch(16)
    _, whole = gradients(contrast(make_clip_config()), batch)
    _, parts = gradients(contrast(make_clip_config(micro_batch_size=4)), batch)
    model: Any = contrast(make_clip_config()).model
    pixels = normalize(batch.images, make_clip_config().mean, make_clip_config().std).split(4)
    tokens = batch.tokens.split(4)
    with torch.no_grad():
        kept = [model(*part) for part in zip(pixels, tokens, strict=True)]
    for number in range(4):
        live = model(pixels[number], tokens[number])
        images, texts = (
            torch.cat([live[column] if other == number else kept[other][column] for other in range(4)])
            for column in (0, 1)
        )
        open_clip.ClipLoss()(images, texts, live[2]).backward()
    torch.testing.assert_close(model.logit_scale.grad, 4 * whole["logit_scale"], rtol=1e-4, atol=0)
    torch.testing.assert_close(parts["logit_scale"], whole["logit_scale"], rtol=1e-4, atol=0)


def test_batch_norms_do_not_go_in_parts(make_clip_config):
    resnet = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 64}
    with pytest.raises(UserError) as caught:
        contrast(make_clip_config(micro_batch_size=4, model_cfg={"vision_cfg": resnet}))
    assert str(caught.value) == (
        "micro_batch_size 4: model 'small' has batch norms, whose statistics would be those of a micro batch; "
        "leave micro_batch_size out"
    )


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_losses_are_those_of_the_papers(make_clip_config, loss):
    """Radford et al. 2021, figure 3, and Zhai et al. 2023, algorithm 1, in float64."""
    config = make_clip_config(loss=loss)
    objective, batch = contrast(config), random_batch(12)
    found, _ = gradients(objective, batch)
    model: Any = create_clip(config, 0).double()
    pixels = normalize(batch.images, config.mean, config.std).double()
    images, texts = model.encode_image(pixels), model.encode_text(batch.tokens)
    cosines = (images @ texts.T) / images.norm(dim=1)[:, None] / texts.norm(dim=1)[None]
    if loss == "siglip":
        signs = 2 * torch.eye(12) - 1
        expected = torch.log1p(torch.exp(-signs * (10 * cosines - 10))).sum() / 12
    else:
        logits = cosines / 0.07
        rows = torch.logsumexp(logits, 1) - logits.diagonal()
        columns = torch.logsumexp(logits, 0) - logits.diagonal()
        expected = (rows.mean() + columns.mean()) / 2
    assert found == pytest.approx(expected.item(), rel=1e-5)  # float32 features and logits


def test_bfloat16_is_near_float32(make_clip_config):
    batch = random_batch(16)
    exact, _ = gradients(contrast(make_clip_config()), batch)
    rounded, _ = gradients(contrast(make_clip_config(precision="bfloat16")), batch)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)  # 8 bits of mantissa through two blocks


def test_the_logit_scale_stays_within_its_limits(make_clip_config, make_pairs, tmp_path):
    for start, rate in [(math.log(100) - 0.01, 1e-2), (0.001, 1e-2)]:
        config = make_clip_config(epochs=10, model_cfg={"init_logit_scale": start}, optimizer={"learning_rate": rate})
        objective = contrast(config)
        batch = random_batch(16)
        for _ in range(5):
            objective.backward(batch, 0)
            objective.model.get_parameter("logit_scale").grad = torch.tensor(-1.0 if start > 1 else 1.0)
            objective.optimizer.step()
            objective.after_step()
        assert objective.logit_scale == pytest.approx(100 if start > 1 else 1, rel=1e-6)
    config = make_clip_config(epochs=20, model_cfg={"init_logit_scale": math.log(99.9)})
    trained = train_clip(config, make_pairs(16), Execution(CheckpointFile(Storage(tmp_path))), seed=0)
    assert trained.logit_scale <= 100 * (1 + 1e-6)
