"""A training of the mixed arm, killed with SIGKILL at three random moments: it ends as one that nobody disturbed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WORKER = Path(__file__).with_name("clip_killed.py")


def steps_told(folder):
    file = folder / "steps"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def run_to_the_end(process, folder):
    process.join()
    assert process.exitcode == 0
    return torch.load(folder / "trained.pt")


def test_three_kills_change_nothing(start_script, make_clip_config, make_pairs, tmp_path):
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
        (folder / "config.json").write_text(make_clip_config(epochs=60).model_dump_json())
        pq.write_table(make_pairs(48), folder / "pairs.parquet")
        pq.write_table(make_pairs(48, tone=200), folder / "synthetic.parquet")
    whole, killed = folders
    loss, seen, weights = run_to_the_end(start_script(WORKER, FOLDER=str(whole)), whole)
    rng = np.random.default_rng()  # another moment each time: the test must hold for all
    starts = []
    for _ in range(3):
        before = len(steps_told(killed))
        process = start_script(WORKER, FOLDER=str(killed))
        while len(steps_told(killed)) < before + 2:  # the first of them is in a checkpoint
            assert process.is_alive(), "the training ended before it could be killed"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        starts.append(steps_told(killed)[before])
    assert starts == sorted(starts)
    assert starts[-1] > starts[0]  # they went on from a checkpoint
    loss_of_killed, seen_by_killed, weights_of_killed = run_to_the_end(start_script(WORKER, FOLDER=str(killed)), killed)
    assert (loss_of_killed, seen_by_killed) == (loss, seen)
    assert all(torch.equal(weights_of_killed[name], value) for name, value in weights.items())
