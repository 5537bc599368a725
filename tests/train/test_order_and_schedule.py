from __future__ import annotations

import numpy as np
import pytest

from syn_ray.core.errors import UserError
from syn_ray.train.config import StepsConfig
from syn_ray.train.order import VisitOrder
from syn_ray.train.schedule import learning_rate_factor, train_steps


@pytest.mark.parametrize(
    ("millions", "thousands"),
    [(0.125, 126), (0.25, 147), (0.5, 168), (1, 189), (2, 210), (4, 231), (8, 252), (16, 273), (32, 294), (64, 315)],
)
def test_steps_of_the_paper(millions, thousands):
    assert train_steps(StepsConfig(), int(millions * 1e6)) == thousands * 1000
    assert train_steps(StepsConfig(factor=0.01), int(millions * 1e6)) == thousands * 10


def test_a_size_below_the_line_is_refused():
    with pytest.raises(UserError, match=r"^steps: -\d+ for a dataset of 100 images; raise base_steps"):
        train_steps(StepsConfig(), 100)


def test_learning_rate_rises_peaks_and_falls_to_zero():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0 == max(factors)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0, abs=1e-12)
    assert np.argmax(np.diff(factors) < 0) == 10


@pytest.mark.parametrize("dataset_size", [5, 37, 64, 1000])
def test_workers_share_the_batches_of_one(dataset_size):
    alone = VisitOrder(dataset_size, 32, seed=3)
    for world_size in (2, 4):
        shared = [VisitOrder(dataset_size, 32, 3, rank, world_size) for rank in range(world_size)]
        for step in range(12):
            parts = [order.at(step) for order in shared]
            np.testing.assert_array_equal(np.concatenate([part.rows for part in parts]), alone.at(step).rows)
            np.testing.assert_array_equal(np.concatenate([part.visits for part in parts]), alone.at(step).visits)


def test_every_epoch_visits_every_sample_once_in_an_order_of_its_own():
    order = VisitOrder(30, 20, seed=3)
    steps = [order.at(step) for step in range(6)]
    rows, visits = np.concatenate([s.rows for s in steps]), np.concatenate([s.visits for s in steps])
    epochs = [rows[visits == epoch] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert tuple(VisitOrder(30, 20, seed=4).at(0).rows) != tuple(steps[0].rows)


@pytest.mark.parametrize("dataset_size", [20, 21, 25, 30, 39, 40, 41, 110])
def test_distinct_batches_hold_no_sample_twice_and_epochs_stay_whole(dataset_size):
    order = VisitOrder(dataset_size, 20, seed=3, distinct_batches=True)
    steps = [order.at(step) for step in range(8 * dataset_size // 20)]
    assert all(len(set(step.rows.tolist())) == 20 for step in steps)
    rows, visits = np.concatenate([s.rows for s in steps]), np.concatenate([s.visits for s in steps])
    epochs = [rows[visits == epoch] for epoch in range(8)]
    assert all(sorted(epoch) == list(range(dataset_size)) for epoch in epochs[:7])
    assert len({tuple(epoch) for epoch in epochs}) == 8
    if dataset_size % 20 == 0:  # no batch lies in two epochs: nothing has to move
        plain = VisitOrder(dataset_size, 20, seed=3)
        np.testing.assert_array_equal(np.concatenate([plain.at(step).rows for step in range(len(steps))]), rows)


@pytest.mark.parametrize("dataset_size", [21, 30, 39, 41, 50])
def test_a_distinct_step_does_not_depend_on_the_worker_or_the_steps_asked_before(dataset_size):
    order = VisitOrder(dataset_size, 20, seed=3, distinct_batches=True)
    steps = [order.at(step).rows for step in range(41)]
    for step in (40, 2, 17, 18):
        shared = [VisitOrder(dataset_size, 20, 3, rank, 4, distinct_batches=True).at(step).rows for rank in range(4)]
        np.testing.assert_array_equal(np.concatenate(shared), steps[step])
        np.testing.assert_array_equal(order.at(step).rows, steps[step])


def test_a_step_does_not_depend_on_the_steps_asked_before():
    order = VisitOrder(30, 20, seed=3)
    jumped = order.at(40)
    for step in range(41):
        order.at(step)
    np.testing.assert_array_equal(order.at(40).rows, jumped.rows)
    np.testing.assert_array_equal(order.at(2).rows, VisitOrder(30, 20, seed=3).at(2).rows)


def test_an_uneven_share_is_refused():
    with pytest.raises(UserError) as caught:
        VisitOrder(30, 20, seed=3, rank=0, world_size=3)
    assert str(caught.value) == (
        "batch_size 20 cannot be shared evenly by 3 training workers; "
        "change train.num_workers in the resources or batch_size"
    )
