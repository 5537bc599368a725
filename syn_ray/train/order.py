"""Which sample is visited at which step by which worker: a pure function of seed, step and rank.

Each epoch visits every sample once in a seeded order. The epochs' orders, laid end to end, are cut into global batches,
and worker r of W takes the r-th of W equal slices: any number of workers sees the same batches in the same order.

Where batches have to be distinct, the batch that begins in one epoch and ends in the next takes from the next only what
it does not hold yet: a contrastive loss would count a pair that is there twice as its own negative.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed


class Visits(NamedTuple):
    """One worker's share of a batch: rows of the dataset, and how often each had been visited before."""

    rows: npt.NDArray[np.int64]
    visits: npt.NDArray[np.int64]


class Order(Protocol):
    """Tells one worker which rows of its table a step takes."""

    def at(self, step: int) -> Visits:
        """This worker's samples at a step."""


class VisitOrder:
    """The order of a training run.

    Args:
        dataset_size: number of samples.
        batch_size: samples in one step over all workers.
        seed: of the training run.
        rank: this worker.
        world_size: number of workers.
        distinct_batches: no batch holds a sample twice. The batch is then at most the dataset.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """

    def __init__(
        self,
        dataset_size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        distinct_batches: bool = False,
    ) -> None:
        assert batch_size <= dataset_size or not distinct_batches
        if batch_size % world_size:
            raise UserError(
                f"batch_size {batch_size} cannot be shared evenly by {world_size} training workers; "
                "change train.num_workers in the resources or batch_size"
            )
        self.dataset_size = dataset_size
        self.batch_size = batch_size
        self._seed = seed
        self._share = batch_size // world_size
        self._offset = rank * self._share
        self._distinct_batches = distinct_batches
        self._epochs: dict[int, npt.NDArray[np.int64]] = {}

    def at(self, step: int) -> Visits:
        """This worker's samples at a step."""
        start = step * self.batch_size + self._offset
        positions = np.arange(start, start + self._share, dtype=np.int64)
        epochs, places = np.divmod(positions, self.dataset_size)
        rows = np.empty_like(positions)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            rows[inside] = self.epoch(epoch)[places[inside]]
        return Visits(rows, epochs)

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """Every sample in the order in which an epoch visits them."""
        if epoch not in self._epochs:
            # `_move_back` stays within the first batch. So from two batches on, an epoch's end does not depend on how
            # it begins; in a smaller dataset it may, and that on the epoch before.
            from_the_first = self._distinct_batches and self.dataset_size < 2 * self.batch_size
            known = not from_the_first or epoch - 1 in self._epochs
            for each in range(epoch if known else 0, epoch + 1):
                self._draw(each)
        return self._epochs[epoch]

    def _draw(self, epoch: int) -> None:
        # The previous epoch is still being finished when the next begins; older ones are never asked for again.
        self._epochs = {e: order for e, order in self._epochs.items() if e == epoch - 1}
        order = self._shuffled(epoch)
        begun = epoch * self.dataset_size % self.batch_size
        if self._distinct_batches and begun:
            before = self._epochs[epoch - 1] if self._epochs else self._shuffled(epoch - 1)
            _move_back(order, before[-begun:], self.batch_size - begun)
        self._epochs[epoch] = order

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        rng = np.random.Generator(np.random.Philox(derive_seed(self._seed, "order", epoch)))
        return rng.permutation(self.dataset_size)


def _move_back(order: npt.NDArray[np.int64], unwanted: npt.NDArray[np.int64], first: int) -> None:
    """Swaps those of the `first` places that hold an unwanted sample with the next places that hold none.

    Those lie before place `first + len(unwanted)`: fewer than that many can hold unwanted ones.
    """
    is_unwanted = np.zeros(len(order), dtype=bool)
    is_unwanted[unwanted] = True
    places = np.flatnonzero(is_unwanted[order[:first]])
    others = first + np.flatnonzero(~is_unwanted[order[first:]])[: len(places)]
    order[places], order[others] = order[others], order[places]
