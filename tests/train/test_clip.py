from __future__ import annotations

import argparse
import io
import math

import numpy as np
import open_clip
import pytest
import torch
from open_clip_train.train import train_one_epoch

from syn_ray.core.errors import TrainingError, UserError
from syn_ray.core.storage import Storage
from syn_ray.shards.decode import normalize
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.clip import train_clip
from syn_ray.train.clip_model import create_clip
from syn_ray.train.contrast import Contrast
from syn_ray.train.image_text import ImageTextBatches, PairBatch
from syn_ray.train.schedule import clip_train_steps, clip_warmup_fraction, learning_rate_factor


class StopError(Exception):
    """What a crash is to the loop."""


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


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
    loss = objective.backward(batch, 11)
    return float(loss), {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}


def test_eight_pairs_are_learnt_by_heart(make_clip_config, make_pairs, checkpoints):
    config = make_clip_config(epochs=120, augment={"shift_px": 0}, optimizer={"weight_decay": 0})
    reports = []
    trained = train_clip(config, make_pairs(8), seed=0, checkpoints=checkpoints, on_progress=reports.append)
    assert reports[0].loss == pytest.approx(math.log(8), abs=0.5)  # cosines of random features, times 14
    assert trained.train_loss < 0.05
    assert not trained.model.training
    figures = (trained.batch_size, trained.train_steps, trained.samples_seen, trained.epochs, trained.unique_images)
    assert figures == (8, 120, 960, 120, 8)
    assert trained.logit_scale == pytest.approx(float(trained.model.logit_scale.exp()))


@pytest.mark.parametrize("changes", [{}, {"precision": "bfloat16", "micro_batch_size": 5, "loss": "siglip"}])
def test_a_run_killed_five_times_ends_as_an_undisturbed_one(make_clip_config, make_pairs, tmp_path, changes):
    vision = {"patch_dropout": 0.3}  # so that each step draws
    config = make_clip_config(epochs=24, model_cfg={"vision_cfg": vision}, **changes)  # 72 steps
    pairs, synthetic = make_pairs(48), make_pairs(48, tone=200)

    def train(name, on_progress=None, seed=3, checkpoint_seconds=0.0):
        return train_clip(
            config,
            pairs,
            synthetic=synthetic,
            seed=seed,
            checkpoints=CheckpointFile(Storage(tmp_path), name),
            on_progress=on_progress,
            checkpoint_seconds=checkpoint_seconds,
        )

    rng = torch.random.get_rng_state()
    whole = train("whole")
    first_steps = []
    for stop_at in np.random.default_rng(1).permutation(range(1, 8))[:5]:
        reports = 0

        def stop(progress, stop_at=stop_at):
            nonlocal reports
            reports += 1
            first_steps.append(progress.step) if reports == 1 else None
            if progress.step >= 10 * stop_at:
                raise StopError

        with pytest.raises(StopError):
            train("stopped", stop)
    resumed = train("stopped")
    assert len(set(first_steps)) > 1  # they went on from a checkpoint
    assert same(resumed.model, whole.model)
    assert (resumed.train_loss, resumed.logit_scale) == (whole.train_loss, whole.logit_scale)
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert not same(train("other", seed=4).model, whole.model)


def test_checkpoints_know_the_arm(make_clip_config, make_pairs, checkpoints):
    config, pairs, synthetic = make_clip_config(), make_pairs(48), make_pairs(48, tone=200)

    def train(**arms):
        return train_clip(config, pairs, seed=0, checkpoints=checkpoints, checkpoint_seconds=0, **arms)

    train(synthetic=synthetic)
    for arms in ({}, {"synthetic": synthetic, "synthetic_probability": 0.4}):
        with pytest.raises(TrainingError, match=r"checkpoint.pt: a checkpoint of another training run; delete it"):
            train(**arms)
    train(synthetic=synthetic, synthetic_probability=0.5)
    with pytest.raises(UserError, match=r"^synthetic_probability 1.5 is no probability; give a number from 0 to 1$"):
        train(synthetic=synthetic, synthetic_probability=1.5)
    with pytest.raises(TrainingError, match=r"^sample 40 of 48 is missing"):
        train(synthetic=synthetic[:40])


def test_the_mixed_arm_trains_on_both_images(make_clip_config, make_pairs, tmp_path):
    config, pairs, synthetic = make_clip_config(epochs=2), make_pairs(48), make_pairs(48, tone=200)

    def train(name, source, **arms):
        return train_clip(config, source, seed=0, checkpoints=CheckpointFile(Storage(tmp_path), name), **arms)

    real, made = train("real", pairs), train("made", synthetic)
    assert same(train("p0", pairs, synthetic=synthetic, synthetic_probability=0.0).model, real.model)
    assert same(train("p1", pairs, synthetic=synthetic, synthetic_probability=1.0).model, made.model)
    mixed = train("mixed", pairs, synthetic=synthetic)
    assert not same(mixed.model, real.model)
    assert not same(mixed.model, made.model)
    assert 48 < mixed.unique_images < 96 == mixed.samples_seen


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_parts_give_the_gradients_of_the_whole_batch(make_clip_config, loss):
    batch = random_batch(32)
    whole_loss, whole = gradients(contrast(make_clip_config(loss=loss)), batch)
    for size in (8, 5, 31, 32):  # four parts; a last one that is smaller
        part_loss, parts = gradients(contrast(make_clip_config(loss=loss, micro_batch_size=size)), batch)
        assert part_loss == pytest.approx(whole_loss, rel=1e-6)  # float32; other batch shapes round otherwise
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            # sums of 32 terms that partly cancel, each rounded to 2^-24
            torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=3e-6 * float(gradient.abs().max() + 1e-2))


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
    model = create_clip(config, 0).double()
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
    assert found == pytest.approx(float(expected), rel=1e-5)  # float32 features and logits


def test_the_logit_scale_stays_within_its_limits(make_clip_config, make_pairs, tmp_path):
    for start, rate in [(math.log(100) - 0.01, 1e-2), (0.001, 1e-2)]:
        config = make_clip_config(epochs=10, model_cfg={"init_logit_scale": start}, optimizer={"learning_rate": rate})
        objective = contrast(config)
        batch = random_batch(16)
        for _ in range(5):
            objective.backward(batch, 0)
            objective.model.logit_scale.grad.fill_(-1.0 if start > 1 else 1.0)
            objective.optimizer.step()
            objective.after_step()
        assert objective.logit_scale == pytest.approx(100 if start > 1 else 1, rel=1e-6)
    config = make_clip_config(epochs=60, model_cfg={"init_logit_scale": math.log(99.9)})
    trained = train_clip(config, make_pairs(16), seed=0, checkpoints=CheckpointFile(Storage(tmp_path)))
    assert trained.logit_scale <= 100 * (1 + 1e-6)


def test_gradient_checkpointing_changes_nothing(make_clip_config, make_pairs, tmp_path):
    config = make_clip_config(epochs=2, micro_batch_size=6, model_cfg={"vision_cfg": {"patch_dropout": 0.3}})
    models = [
        train_clip(
            config,
            make_pairs(),
            seed=0,
            checkpoints=CheckpointFile(Storage(tmp_path), str(how)),
            gradient_checkpointing=how,
        ).model
        for how in (False, True)
    ]
    assert same(*models)


def test_bfloat16_is_near_float32(make_clip_config):
    batch = random_batch(16)
    exact, _ = gradients(contrast(make_clip_config()), batch)
    rounded, _ = gradients(contrast(make_clip_config(precision="bfloat16")), batch)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)  # 8 bits of mantissa through two blocks


def test_a_loss_that_is_not_finite_stops_the_run(make_clip_config, make_pairs, checkpoints, monkeypatch):
    steps = 0
    finite = torch.nn.functional.cross_entropy

    def poisoned(*args, **kwargs):
        nonlocal steps
        steps += 1
        return finite(*args, **kwargs) * (math.nan if steps == 2 * 14 else 1)  # two for each step

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", poisoned)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: the loss of step 14 is nan; lower optimizer"):
        train_clip(make_clip_config(), make_pairs(), seed=0, checkpoints=checkpoints, checkpoint_seconds=0)
    monkeypatch.undo()
    state = checkpoints._directory.read_bytes("checkpoint.pt")
    assert torch.load(io.BytesIO(state), weights_only=True)["state"]["step"] == 10  # nothing poisoned is kept


class RecordedLoss(open_clip.ClipLoss):
    """open_clip's loss, which writes down what it gives."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses = losses

    def forward(self, *args, **kwargs):
        found = super().forward(*args, **kwargs)
        self.losses.append(float(found["contrastive_loss"]))
        return found


class OpenClipData:
    """The batches of a run in the form that open_clip's loop takes."""

    num_samples = 40

    def __init__(self, config, batches, steps: int) -> None:
        self.config, self.batches, self.num_batches = config, batches, steps
        self.dataloader = self

    def set_epoch(self, epoch: int) -> None:
        pass

    def __iter__(self):
        for step in range(self.num_batches):
            images, tokens = self.batches[step]
            yield normalize(images, self.config.mean, self.config.std), tokens.long()


def test_open_clips_own_loop_gives_the_same_losses_and_weights(make_clip_config, make_pairs, checkpoints, monkeypatch):
    """open_clip's training loop, with the optimizer of its main.py, on the same batches and start."""
    config = make_clip_config(epochs=10, optimizer={"grad_clip": 0.5, "warmup_fraction": 0.2})
    pairs = make_pairs(40)
    steps = clip_train_steps(config, 40)
    assert steps == 25
    losses: list[float] = []
    backward = Contrast.backward

    def recording(self, batch, seed):
        loss = backward(self, batch, seed)
        losses.append(float(loss))
        return loss

    monkeypatch.setattr(Contrast, "backward", recording)
    trained = train_clip(config, pairs, seed=0, checkpoints=checkpoints)

    model = create_clip(config, 0)
    model.output_dict = True
    named = list(model.named_parameters())
    plain = [p for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n]
    rest = [p for n, p in named if not any(p is other for other in plain)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.98), eps=1e-6)

    def scheduler(step):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * learning_rate_factor(step, steps, clip_warmup_fraction(config, steps))

    arguments = argparse.Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=False, horovod=False,
        grad_clip_norm=0.5, log_every_n_steps=1000, rank=0, local_rank=0, world_size=1, batch_size=16, wandb=False,
    )  # fmt: skip
    batches = ImageTextBatches(config, pairs, 0, rank=0, world_size=1, cache_bytes=2**20)
    theirs: list[float] = []
    data = {"train": OpenClipData(config, batches, steps)}
    train_one_epoch(model, data, RecordedLoss(theirs), 0, optimizer, None, scheduler, None, arguments)
    assert min(losses) < losses[0] - 0.3  # something is learnt
    # The optimizers round otherwise (fused or not); AdamW divides by the gradients' size, so 1e-7 grows in 25 steps.
    assert losses == pytest.approx(theirs, abs=2e-4)
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], weights, rtol=0, atol=5e-4)


def test_open_clips_accumulation_counts_the_logit_scale_once_for_each_part(make_clip_config):
    """Why its `accum_freq` is not what is used here: with four parts the logit scale's gradient is four times as large."""
    batch = random_batch(16)
    _, whole = gradients(contrast(make_clip_config()), batch)
    _, parts = gradients(contrast(make_clip_config(micro_batch_size=4)), batch)
    model = contrast(make_clip_config()).model
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
