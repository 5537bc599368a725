from __future__ import annotations

import io
import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from syn_ray.core.errors import TrainingError, UserError
from syn_ray.core.storage import Storage
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.classify import train_classifier
from syn_ray.train.data import checked_labels, first_rows
from syn_ray.train.execution import Execution
from syn_ray.train.model import create_model, create_optimizer


class StopError(Exception):
    """What a crash is to the loop."""


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_eight_images_are_learnt_by_heart(make_config, make_source, checkpoints):
    config = make_config(
        batch_size=8,
        augment={"shift_px": 0, "flip_probability": 0},
        optimizer={"learning_rate": 1e-2, "weight_decay": 0},
        steps={"base_steps": 150, "reference_size": 8},
    )
    trained = train_classifier(config, make_source(8, 8), Execution(checkpoints), num_classes=8, seed=0)
    assert trained.train_loss < 0.01
    assert not trained.model.training
    assert (trained.train_steps, trained.samples_seen, trained.epochs, trained.unique_images) == (150, 1200, 150, 8)


def test_unseen_images_are_not_counted(make_config, make_source, checkpoints):
    config = make_config(batch_size=4, steps={"base_steps": 3, "reference_size": 40})
    trained = train_classifier(config, make_source(), Execution(checkpoints), num_classes=4, seed=0)
    assert (trained.train_steps, trained.samples_seen, trained.epochs, trained.unique_images) == (3, 12, 0.3, 12)


@pytest.mark.parametrize(
    ("precision", "optimizer", "stop_at"),
    [
        ("float32", "adamw", 10),
        pytest.param("bfloat16", "adamw", 30, marks=pytest.mark.slow),
        ("float32", "muon", 30),
    ],
)
def test_a_stopped_run_ends_as_an_undisturbed_one(make_config, make_source, tmp_path, precision, optimizer, stop_at):
    config = make_config(
        drop_path=0.3,
        label_smoothing=0.1,
        precision=precision,
        model_kwargs={"depth": 2},
        augment={"mixup_alpha": 0.4, "cutmix_alpha": 1.0, "erase_probability": 0.3},
        optimizer={"name": optimizer, "ema_decay": 0.9},
    )
    source = make_source()

    def train(name, on_progress=None, seed=3):
        file = CheckpointFile(Storage(tmp_path), name)
        return train_classifier(
            config, source, Execution(file, on_progress=on_progress, checkpoint_seconds=0), num_classes=4, seed=seed
        )

    def stop(progress):
        if progress.step > stop_at:
            raise StopError

    steps: list[int] = []
    rng = torch.random.get_rng_state()
    whole = train("whole")
    with pytest.raises(StopError):
        train("stopped", stop)
    resumed = train("stopped", lambda progress: steps.append(progress.step))
    assert steps == list(range(stop_at + 10, 41, 10))  # it went on from the checkpoint
    assert same(resumed.model, whole.model)
    assert resumed.train_loss == whole.train_loss
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert not same(train("other", seed=4).model, whole.model)


def test_a_checkpoint_of_another_run_is_refused(make_config, make_source, tmp_path, checkpoints):
    source = make_source()

    def train(config, file, size=40, seed=0):
        return train_classifier(
            config, source, Execution(file, checkpoint_seconds=0), num_classes=4, seed=seed, dataset_size=size
        )

    train(make_config(), checkpoints)
    message = f"{tmp_path}/checkpoint.pt: a checkpoint of another training run; delete it and run again"
    for config, file, size, seed in [
        (make_config(drop_path=0.1), checkpoints, 40, 0),
        (make_config(), checkpoints, 20, 0),
        (make_config(), checkpoints, 40, 1),
        (make_config(), CheckpointFile(Storage(tmp_path), run="another source"), 40, 0),
    ]:
        with pytest.raises(TrainingError) as caught:
            train(config, file, size, seed)
        assert str(caught.value) == message
    checkpoints.delete()
    train(make_config(drop_path=0.1), checkpoints)


def test_a_damaged_checkpoint_is_named(make_config, make_source, tmp_path, checkpoints):
    train_classifier(make_config(), make_source(), Execution(checkpoints, checkpoint_seconds=0), num_classes=4, seed=0)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(TrainingError, match=r"checkpoint.pt: no readable checkpoint \(.*\); delete it and run again"):
        train_classifier(make_config(), make_source(), Execution(checkpoints), num_classes=4, seed=0)


def test_the_first_loss_that_is_not_finite_stops_the_run(make_config, make_source, checkpoints, monkeypatch):
    steps = 0
    finite = torch.nn.functional.cross_entropy

    def poisoned(*args, **kwargs):
        nonlocal steps
        steps += 1
        return finite(*args, **kwargs) * (math.nan if steps == 14 else 1)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", poisoned)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: the loss of step 14 is nan; lower optimizer"):
        train_classifier(
            make_config(), make_source(), Execution(checkpoints, checkpoint_seconds=0), num_classes=4, seed=0
        )
    monkeypatch.undo()
    state = checkpoints._directory.read_bytes("checkpoint.pt")
    assert torch.load(io.BytesIO(state), weights_only=True)["state"]["step"] == 10  # nothing poisoned is kept


def test_a_larger_source_gives_the_same_dataset(make_config, make_source, tmp_path):
    """The dataset of size D is the first D samples, whatever else the table holds and in whatever order."""
    source = make_source(40)
    shuffled = source.take(pa.array(np.random.default_rng(0).permutation(40)))
    models = []
    for number, table in enumerate([source.slice(0, 24), source, shuffled]):
        file = CheckpointFile(Storage(tmp_path), f"{number}.pt")
        trained = train_classifier(
            make_config(), table, Execution(file, loader_workers=number % 2), num_classes=4, seed=0, dataset_size=24
        )
        models.append(trained.model)
    assert same(models[0], models[1])
    assert same(models[0], models[2])


def test_missing_and_doubled_samples_are_found(make_source):
    source = make_source(20)
    without_7 = pa.concat_tables([source.slice(0, 7), source.slice(8)])
    doubled = pa.concat_tables([source.slice(0, 8), source.slice(7)])
    for table, size, wrong in [(without_7, 12, 7), (doubled, 12, 8), (source, 21, 20)]:
        with pytest.raises(TrainingError, match=f"^sample {wrong} of {size} is missing or there twice among"):
            first_rows(table, size, source.column_names)
    assert first_rows(without_7, 7, ["sample_index"])["sample_index"].to_pylist() == list(range(7))
    with pytest.raises(TrainingError, match="labels lie between 0 and 3, 0 are null; they must be 0 to 2"):
        checked_labels(source, 3)


def test_decay_spares_norms_biases_and_positions(make_config):
    config = make_config()
    model = create_model(config, 4, 0)
    optimizer = create_optimizer(model, config.optimizer)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, plain = ([names[id(p)] for p in group["params"]] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    assert sorted(decayed + plain) == sorted(names.values())
    assert "patch_embed.proj.weight" in decayed
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias"} <= set(plain)


def test_a_model_that_does_not_take_its_arguments(make_config):
    with pytest.raises(UserError, match=r"^model 'vit_base_patch16_224' does not take its model_kwargs: .*wrong"):
        create_model(make_config(model_kwargs={"wrong": 1}), 4, 0)
    with pytest.raises(UserError) as caught:
        create_model(make_config(model_kwargs={"img_size": 32}), 4, 0)
    assert str(caught.value) == (
        "model 'vit_base_patch16_224' takes images of 32 px and image_px is 16; add img_size: 16 to model_kwargs"
    )
