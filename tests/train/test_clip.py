from __future__ import annotations

import argparse
import io
import math
from typing import Any

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
from syn_ray.train.execution import Execution
from syn_ray.train.image_text import ImageTextBatches
from syn_ray.train.schedule import clip_train_steps, clip_warmup_fraction, learning_rate_factor


class StopError(Exception):
    """What a crash is to the loop."""


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_eight_pairs_are_learnt_by_heart(make_clip_config, make_pairs, checkpoints):
    config = make_clip_config(epochs=60, augment={"shift_px": 0}, optimizer={"weight_decay": 0})
    trained = train_clip(config, make_pairs(8), Execution(checkpoints), seed=0)
    assert trained.train_loss < 0.05
    figures = (trained.batch_size, trained.train_steps, trained.samples_seen, trained.epochs, trained.unique_images)
    assert trained.logit_scale == pytest.approx(trained.model.get_parameter("logit_scale").exp().item())
    assert figures == (8, 60, 480, 60, 8)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"micro_batch_size": 9, "loss": "siglip"}])
def test_a_run_stopped_three_times_ends_as_an_undisturbed_one(make_clip_config, make_pairs, tmp_path, changes):
    vision = {"patch_dropout": 0.3}  # so that each step draws
    config = make_clip_config(epochs=11, model_cfg={"vision_cfg": vision}, **changes)  # 33 steps
    pairs, synthetic = make_pairs(48), make_pairs(48, tone=200)

    def train(name, on_progress=None, seed=3):
        return train_clip(
            config,
            pairs,
            Execution(CheckpointFile(Storage(tmp_path), name), on_progress=on_progress, checkpoint_seconds=0),
            synthetic=synthetic,
            seed=seed,
        )

    rng = torch.random.get_rng_state()
    whole = train("whole")
    first_steps: list[int] = []
    for last in 10 * np.random.default_rng(1).integers(1, 4, 3):
        steps: list[int] = []

        def stop(progress, steps=steps, last=last):
            steps.append(progress.step)
            if progress.step >= last:
                raise StopError

        with pytest.raises(StopError):
            train("stopped", stop)
        first_steps.append(steps[0])
    resumed = train("stopped")
    assert len(set(first_steps)) > 1  # they went on from a checkpoint
    assert same(resumed.model, whole.model)
    assert (resumed.train_loss, resumed.logit_scale) == (whole.train_loss, whole.logit_scale)
    assert torch.equal(torch.random.get_rng_state(), rng)
    if not changes:
        assert not same(train("other", seed=4).model, whole.model)


def test_checkpoints_know_the_arm(make_clip_config, make_pairs, checkpoints):
    config, pairs, synthetic = make_clip_config(), make_pairs(48), make_pairs(48, tone=200)

    def train(**arms):
        return train_clip(config, pairs, Execution(checkpoints, checkpoint_seconds=0), seed=0, **arms)

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
        return train_clip(config, source, Execution(CheckpointFile(Storage(tmp_path), name)), seed=0, **arms)

    real, made = train("real", pairs), train("made", synthetic)
    assert same(train("p0", pairs, synthetic=synthetic, synthetic_probability=0.0).model, real.model)
    assert same(train("p1", pairs, synthetic=synthetic, synthetic_probability=1.0).model, made.model)
    mixed = train("mixed", pairs, synthetic=synthetic)
    assert not same(mixed.model, real.model)
    assert not same(mixed.model, made.model)
    assert 48 < mixed.unique_images < 96 == mixed.samples_seen


def test_gradient_checkpointing_changes_nothing(make_clip_config, make_pairs, tmp_path):
    config = make_clip_config(epochs=2, micro_batch_size=6, model_cfg={"vision_cfg": {"patch_dropout": 0.3}})
    models = [
        train_clip(
            config,
            make_pairs(),
            Execution(CheckpointFile(Storage(tmp_path), str(how)), gradient_checkpointing=how),
            seed=0,
        ).model
        for how in (False, True)
    ]
    assert same(*models)


def test_a_loss_that_is_not_finite_stops_the_run(make_clip_config, make_pairs, checkpoints, monkeypatch):
    steps = 0
    finite = torch.nn.functional.cross_entropy

    def poisoned(*args, **kwargs):
        nonlocal steps
        steps += 1
        return finite(*args, **kwargs) * (math.nan if steps == 2 * 14 else 1)  # two for each step

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", poisoned)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: the loss of step 14 is nan; lower optimizer"):
        train_clip(make_clip_config(), make_pairs(), Execution(checkpoints, checkpoint_seconds=0), seed=0)
    monkeypatch.undo()
    state = checkpoints._directory.read_bytes("checkpoint.pt")
    assert torch.load(io.BytesIO(state), weights_only=True)["state"]["step"] == 10  # nothing poisoned is kept


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


@pytest.mark.slow
def test_open_clips_own_loop_gives_the_same_losses_and_weights(make_clip_config, make_pairs, checkpoints):
    """open_clip's training loop, with the optimizer of its main.py, on the same batches and start."""
    config = make_clip_config(epochs=10, optimizer={"grad_clip": 0.5, "warmup_fraction": 0.2})
    pairs = make_pairs(40)
    steps = clip_train_steps(config, 40)
    assert steps == 25
    reports: list[float] = []
    trained = train_clip(
        config, pairs, Execution(checkpoints, on_progress=lambda progress: reports.append(progress.loss)), seed=0
    )

    model: Any = create_clip(config, 0)
    model.output_dict = True
    theirs: list[float] = []
    own_loss = open_clip.ClipLoss()

    def recorded(**outputs):
        found = own_loss(**outputs)
        theirs.append(found["contrastive_loss"].item())
        return found

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
    data = {"train": OpenClipData(config, batches, steps)}
    train_one_epoch(model, data, recorded, 0, optimizer, None, scheduler, None, arguments)
    assert theirs[-1] < theirs[0] - 0.3  # something is learnt
    # The optimizers round otherwise (fused or not); AdamW divides by the gradients' size, so 1e-7 grows in 25 steps.
    # Ten times what was found.
    assert reports == pytest.approx([np.mean(part) for part in (theirs[:10], theirs[10:20], theirs[20:])], abs=1e-5)
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], weights, rtol=0, atol=4e-4)
