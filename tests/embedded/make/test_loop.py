"""A training in minutes: it ends in time, goes on where it was, and a second start finds it finished."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from syn_ray.embedded.make.loop import Recipe, same_in_all_processes, sum_over_processes, train


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit(checkpoint, minutes: float) -> tuple[nn.Linear, int]:
    """The averaged model of y = 2 x, and in how many steps it was trained now."""
    torch.manual_seed(0)
    model, steps = nn.Linear(1, 1), 0

    def loss_of(rng, _):
        nonlocal steps
        steps += 1
        x = torch.from_numpy(rng.standard_normal((16, 1), dtype="float32"))
        return (model(x) - 2 * x).square().mean()

    return train(model, loss_of, Recipe(minutes, 16, peak_learning_rate=0.1, average_decay=0.9), checkpoint), steps


@pytest.mark.slow
def test_it_learns_stops_in_time_and_is_finished_when_started_again(tmp_path):
    trained, steps = fit(tmp_path / "a.pt", minutes=0.02)
    assert steps > 20
    assert trained.weight.item() == pytest.approx(2.0, abs=0.05)
    again, more = fit(tmp_path / "a.pt", minutes=0.02)
    assert more == 0
    assert torch.equal(again.weight, trained.weight)


@pytest.mark.slow
def test_it_goes_on_from_its_checkpoint(tmp_path):
    _, first = fit(tmp_path / "a.pt", minutes=0.01)
    _, second = fit(tmp_path / "a.pt", minutes=0.02)
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert state["step"] == first + second
    assert state["spent"] == pytest.approx(1.2, abs=0.5)  # seconds: a step may overrun on a busy machine


def test_one_process_is_all_processes():
    values = torch.ones(3)
    assert sum_over_processes(values) is values
    assert same_in_all_processes(values) is values
