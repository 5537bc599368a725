from __future__ import annotations

import numpy as np
import pydantic
import pytest
import torch

from syn_ray.core.errors import ShardError, UserError
from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import Manifest, write_manifest
from syn_ray.shards.schema import Sample
from syn_ray.shards.writer import write_shard
from syn_ray.train.checkpoint import CheckpointFile
from syn_ray.train.classify import train_classifier
from syn_ray.train.clip import train_clip
from syn_ray.train.execution import Execution
from syn_ray.train.stream_config import StreamConfig
from syn_ray.train.streaming import ShardedSamples
from syn_ray.train.windows import WindowedOrder

SIZE = 67
STREAM = {"window": 24, "lanes": 4, "chunk": 5}
"""Of 67 samples: a last chunk of 2; batches of 8, windows of 2 or 3 of them, 3 samples of an epoch left out."""


def make_order(rank=0, world_size=1, seed=3, size=SIZE):
    return WindowedOrder(StreamConfig.model_validate(STREAM), size, 8, seed, rank, world_size)


def samples_of(order, steps):
    """Which samples each of the first steps takes, and the epoch it says it is in."""
    found = []
    for window in order.windows(0, steps):
        share = order.share(window)
        table = np.concatenate([np.array(part) for part in share.ranges])
        for step in range(window.first_step, min(steps, window.first_step + window.steps)):
            rows, visits = share.at(step)
            found.append((table[rows], set(visits)))
    return found


def write_source(directory, table, shard_size=6):
    """A source of that many samples a shard; chunks lie across them."""
    rows = table.to_pylist()
    entries = [
        write_shard(
            directory,
            [
                Sample(r["sample_index"], r["image"]["bytes"], r.get("label", -1), r.get("text", ""), 0)
                for r in rows[start : start + shard_size]
            ],
            provenance={"fingerprint": "f"},
        )
        for start in range(0, len(rows), shard_size)
    ]
    write_manifest(
        directory, Manifest(name="s", fingerprint="f", shard_size=shard_size, batch_size=1).with_shards(entries)
    )
    return ShardedSamples(directory, table.num_rows)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    second = other.state_dict()
    return all(torch.equal(value, second[name]) for name, value in one.state_dict().items())


def test_an_epoch_visits_each_sample_at_most_once_and_leaves_out_less_than_a_batch():
    steps = samples_of(make_order(), 3 * 8)
    left_out = []
    for epoch in range(3):
        of_epoch = steps[8 * epoch : 8 * epoch + 8]
        assert all(visits == {epoch} for _, visits in of_epoch)
        seen = np.concatenate([taken for taken, _ in of_epoch])
        assert len(seen) == len(set(seen)) == 64
        assert set(seen) <= set(range(SIZE))
        left_out.append(set(range(SIZE)) - set(seen))
    assert len(set(map(frozenset, left_out))) > 1
    assert [list(taken) for taken, _ in steps[:8]] != [list(taken) for taken, _ in steps[8:16]]


def test_any_number_of_workers_sees_the_same_batches_and_reads_only_its_own():
    alone = samples_of(make_order(), 24)
    for world_size in (2, 4):
        shared = [samples_of(make_order(rank, world_size), 24) for rank in range(world_size)]
        for step, (taken, _) in enumerate(alone):
            assert list(np.concatenate([worker[step][0] for worker in shared])) == list(taken)
    window = next(make_order().windows(0, 1))
    read = [sum(map(len, make_order(rank, 4).share(window).ranges)) for rank in range(4)]
    assert read == [window.steps * 2] * 4


def test_neighbours_part_within_a_window_and_windows_differ_from_seed_to_seed():
    """A batch is no run of neighbours: over all steps, few samples follow the one before them."""
    order = WindowedOrder(StreamConfig(window=512, lanes=4, chunk=32), 4096, 64, 0)
    taken = np.concatenate([taken for taken, _ in samples_of(order, 64)])
    assert (np.diff(taken) == 1).mean() < 0.03
    assert list(samples_of(make_order(seed=4), 1)[0][0]) != list(samples_of(make_order(), 1)[0][0])


def test_a_window_is_found_from_any_step_in_it():
    windows = list(make_order().windows(0, 24))
    assert [window.first_step for window in windows] == [0, 2, 5, 8, 10, 13, 16, 18, 21]
    assert {window.steps for window in windows} == {2, 3}
    for step in range(24):
        (window,) = make_order().windows(step, step + 1)
        assert window.first_step <= step < window.first_step + window.steps


def test_samples_are_read_across_shards(make_pairs, tmp_path):
    pairs = make_pairs(40)
    source = write_source(Storage(tmp_path), pairs)
    ranges = [range(4, 15), range(39, 40), range(6)]
    found = source.read(ranges, ["sample_index", "image", "text"])
    assert found["sample_index"].to_pylist() == [index for part in ranges for index in part]
    assert found["image"].to_pylist()[11]["bytes"] == pairs["image"].to_pylist()[39]["bytes"]
    with pytest.raises(UserError, match="lists 40 of the first 41 samples"):
        ShardedSamples(Storage(tmp_path), 41)
    (tmp_path / "shard-00000012.parquet").unlink()
    with pytest.raises(ShardError, match="shard-00000012"):
        source.read(ranges, ["image"])


@pytest.mark.slow
def test_a_streamed_clip_is_the_same_from_shards_from_memory_and_after_every_stop(
    make_clip_config, make_pairs, tmp_path
):
    """Whether it is read by a process of its own or not."""
    config = make_clip_config(batch_size=8, epochs=4, stream=STREAM)
    tables = make_pairs(SIZE), make_pairs(SIZE, tone=200)
    lying = [write_source(Storage(tmp_path / str(number)), table) for number, table in enumerate(tables)]

    def run(name, arms, on_progress=None, loader_workers=0):
        execution = Execution(
            CheckpointFile(Storage(tmp_path), name),
            checkpoint_seconds=0,
            on_progress=on_progress,
            loader_workers=loader_workers,
        )
        return train_clip(config, arms[0], execution, synthetic=arms[1], seed=0)

    began = []
    for loader_workers, last in enumerate((20, 30)):
        steps: list[int] = []

        def stop(progress, steps=steps, last=last):
            steps.append(progress.step)
            if progress.step >= last:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            run("stopped", lying, stop, loader_workers)
        began.append(steps[0])
    assert began == [10, 20]  # in the middle of a window, of another epoch
    held, streamed = run("held", tables), run("stopped", lying, loader_workers=1)
    assert same(held.model, streamed.model)
    assert (held.train_steps, held.samples_seen) == (34, 272)
    assert SIZE < held.unique_images < 2 * SIZE
    whole = train_clip(
        make_clip_config(batch_size=8, epochs=4),
        tables[0],
        Execution(CheckpointFile(Storage(tmp_path), "whole")),
        synthetic=tables[1],
        seed=0,
    )
    assert not same(held.model, whole.model)  # shuffled whole
    assert abs(held.unique_images - whole.unique_images) < 10  # expected against counted


@pytest.mark.slow
def test_a_streamed_classifier_is_the_same_from_shards_and_from_memory(make_config, make_source, tmp_path):
    config = make_config(batch_size=8, stream=STREAM, augment={"mixup_alpha": 0.4})
    table = make_source(SIZE)
    models = [
        train_classifier(
            config, source, Execution(CheckpointFile(Storage(tmp_path), str(number))), num_classes=4, seed=0
        )
        for number, source in enumerate([table, write_source(Storage(tmp_path / "s"), table)])
    ]
    assert same(models[0].model, models[1].model)
    assert models[0].train_loss < 1.2  # of 1.39 by chance


def test_small_datasets_are_shuffled_whole(make_config, make_source, tmp_path):
    """And a study's fingerprints from before there were streams are as they were."""
    models = []
    for number, changes in enumerate([{}, {"stream": STREAM | {"lanes": 8}}]):
        execution = Execution(CheckpointFile(Storage(tmp_path), str(number)))
        trained = train_classifier(make_config(**changes), make_source(24), execution, num_classes=4, seed=0)
        models.append(trained.model)
    assert same(*models)
    assert "stream" not in make_config().identity
    assert make_config().fingerprint != make_config(stream=STREAM).fingerprint


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"lanes": 6}, "stream: 6 lanes do not share batch_size 16 evenly; give lanes that divide it"),
        ({"window": 12}, "stream: a window of 12 samples holds no batch of 16; raise window or lower batch_size"),
    ],
)
def test_windows_that_do_not_go_with_the_batch_are_refused(stream, message, make_config, make_clip_config):
    for make in (make_config, make_clip_config):
        with pytest.raises(pydantic.ValidationError, match=message):
            make(stream=STREAM | stream)


def test_workers_that_cannot_share_the_lanes_are_refused():
    with pytest.raises(UserError, match=r"^train.stream.lanes 4 cannot be shared evenly by 3 training workers; change"):
        make_order(0, 3)
