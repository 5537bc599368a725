"""The order in which a streamed dataset is visited: a pure function of seed, step and rank, as `order.VisitOrder` is.

An epoch lays the chunks of the dataset end to end in a seeded order. It is cut into windows of whole batches, and each
window into lanes. A lane is read by one worker, which shuffles it; a batch takes the same number of samples from every
lane. So a worker reads what it trains on and little more, and any number of workers sees the same batches. Samples
beyond an epoch's last whole batch are left out of that epoch, in each epoch other ones: no batch holds a sample twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from syn_ray.core.errors import UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.train.order import Visits

if TYPE_CHECKING:
    from syn_ray.train.stream_config import StreamConfig


class Window(NamedTuple):
    """Steps of one epoch whose samples are shuffled together."""

    epoch: int
    first_step: int
    """Counted over the whole run."""
    steps: int


class WindowVisits:
    """One worker's share of a window, once the samples of its `ranges` lie end to end in a table.

    Args:
        window: whose steps these are.
        ranges: of samples, in the order in which they lie in the table.
        rows: of the table, [steps, samples of a step].
    """

    def __init__(self, window: Window, ranges: Sequence[range], rows: npt.NDArray[np.int64]) -> None:
        self.window = window
        self.ranges = ranges
        self._rows = rows

    def at(self, step: int) -> Visits:
        """This worker's samples at a step of the window."""
        rows = self._rows[step - self.window.first_step]
        return Visits(rows, np.full_like(rows, self.window.epoch))


class WindowedOrder:
    """The order of a training run.

    Args:
        stream: sizes of windows, lanes and chunks.
        dataset_size: number of samples, more than a window's.
        batch_size: samples in one step over all workers.
        seed: of the training run.
        rank: this worker.
        world_size: number of workers.

    Raises:
        UserError: the lanes cannot be shared out evenly.
    """

    def __init__(
        self, stream: StreamConfig, dataset_size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        assert dataset_size > stream.window >= batch_size
        if stream.lanes % world_size:
            raise UserError(
                f"train.stream.lanes {stream.lanes} cannot be shared evenly by {world_size} training workers; "
                "change train.num_workers in the resources or lanes"
            )
        self._dataset_size = dataset_size
        self._batch_size = batch_size
        self._chunk = stream.chunk
        self._seed = seed
        share = stream.lanes // world_size
        self._lanes = range(rank * share, (rank + 1) * share)
        self._lane_samples = batch_size // stream.lanes
        self._epoch_steps = dataset_size // batch_size
        # Of nearly one length, so that none is left with a few batches that hardly mix.
        number = -(-self._epoch_steps // (stream.window // batch_size))
        self._starts = [self._epoch_steps * window // number for window in range(number + 1)]

    def windows(self, first_step: int, last_step: int) -> Iterator[Window]:
        """The windows that hold the steps `first_step` to `last_step - 1`, in order."""
        for epoch in range(first_step // self._epoch_steps, -(-last_step // self._epoch_steps)):
            begun = epoch * self._epoch_steps
            for start, stop in zip(self._starts, self._starts[1:], strict=False):
                if begun + stop > first_step and begun + start < last_step:
                    yield Window(epoch, begun + start, stop - start)

    def share(self, window: Window) -> WindowVisits:
        """Which samples this worker reads for a window, and which of them each step takes."""
        length = window.steps * self._lane_samples
        first = (window.first_step - window.epoch * self._epoch_steps) * self._batch_size
        chunks, ends = self._laid_out(window.epoch)
        ranges: list[range] = []
        parts: list[npt.NDArray[np.int64]] = []
        for lane in self._lanes:
            start = first + lane * length
            ranges += self._between(chunks, ends, start, start + length)
            rng = np.random.Generator(np.random.Philox(derive_seed(self._seed, "lane", window.first_step, lane)))
            parts.append(len(parts) * length + rng.permutation(length).reshape(window.steps, self._lane_samples))
        return WindowVisits(window, ranges, np.concatenate(parts, axis=1))

    def _laid_out(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The chunks of an epoch in its order, and where each ends."""
        rng = np.random.Generator(np.random.Philox(derive_seed(self._seed, "chunks", epoch)))
        chunks = rng.permutation(-(-self._dataset_size // self._chunk))
        return chunks, np.cumsum(np.minimum(self._chunk, self._dataset_size - chunks * self._chunk))

    def _between(
        self, chunks: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], start: int, stop: int
    ) -> Iterator[range]:
        """The samples that lie at the places `start` to `stop - 1` of an epoch."""
        place = start
        while place < stop:
            at = int(np.searchsorted(ends, place, side="right"))
            until = min(stop, int(ends[at]))
            end = min((int(chunks[at]) + 1) * self._chunk, self._dataset_size)  # of the chunk, which ends at ends[at]
            yield range(end - (int(ends[at]) - place), end - (int(ends[at]) - until))
            place = until
