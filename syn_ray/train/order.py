"""Which sample is visited at which step by which worker: a pure function of seed, step and rank.

Each epoch visits every sample once in a seeded order. The epochs' orders, laid end to end, are cut into global batches,
and worker r of W takes the r-th of W equal slices: any number of workers sees the same batches in the same order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed


class Visits(NamedTuple):
    """One worker's share of a batch: rows of the dataset, and how often each had been visited before."""

    rows: npt.NDArray[np.int64]
    visits: npt.NDArray[np.int64]


class VisitOrder:
    """The order of a training run.

    Args:
        dataset_size: number of samples.
        batch_size: samples in one step over all workers.
        seed: of the training run.
        rank: this worker.
        world_size: number of workers.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """

    def __init__(self, dataset_size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
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
        self._epochs: dict[int, npt.NDArray[np.int64]] = {}

    def at(self, step: int) -> Visits:
        """This worker's samples at a step."""
        start = step * self.batch_size + self._offset
        positions = np.arange(start, start + self._share, dtype=np.int64)
        epochs, places = np.divmod(positions, self.dataset_size)
        rows = np.empty_like(positions)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            rows[inside] = self._permutation(epoch)[places[inside]]
        return Visits(rows, epochs)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch not in self._epochs:
            # The previous epoch is still being finished when the next begins; older ones are never asked for again.
            self._epochs = {e: order for e, order in self._epochs.items() if e == epoch - 1}
            rng = np.random.Generator(np.random.Philox(derive_seed(self._seed, "order", epoch)))
            self._epochs[epoch] = rng.permutation(self.dataset_size)
        return self._epochs[epoch]
