"""Batches of a dataset that is read while it is trained on: a window's samples are read while the one before trains."""

from __future__ import annotations

import bisect
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import pyarrow as pa

from syn_ray.shards.reader import open_source, read_shard
from syn_ray.train.data import first_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from syn_ray.core.storage import Storage
    from syn_ray.train.data import BatchesByStep
    from syn_ray.train.windows import Window, WindowedOrder, WindowVisits

READS_AT_ONCE = 8
"""Shards that a worker reads at a time: an object store answers each after some 10 ms."""

B = TypeVar("B")


class ShardedSamples:
    """The first samples of a source where it lies, read a range at a time.

    Args:
        images: the source's directory.
        dataset_size: how many.

    Raises:
        UserError: the source lacks some.
    """

    def __init__(self, images: Storage, dataset_size: int) -> None:
        self.num_rows = dataset_size
        self._images = images
        self._shards = open_source(images).prefix(dataset_size)
        self._firsts = [shard.first_index for shard in self._shards]

    def read(self, ranges: Sequence[range], columns: Sequence[str]) -> pa.Table:
        """The samples of the ranges, end to end.

        Raises:
            ShardError: a shard is gone or broken.
        """
        with ThreadPoolExecutor(READS_AT_ONCE) as readers:
            return pa.concat_tables(readers.map(lambda samples: self._range(samples, columns), ranges))

    def _range(self, samples: range, columns: Sequence[str]) -> pa.Table:
        first = bisect.bisect_right(self._firsts, samples.start) - 1
        last = bisect.bisect_left(self._firsts, samples.stop)
        tables = [read_shard(self._images, shard, columns) for shard in self._shards[first:last]]
        return pa.concat_tables(tables).slice(samples.start - self._firsts[first], len(samples))


Samples: TypeAlias = pa.Table | ShardedSamples
"""A source in memory, or where it lies."""


def read_whole(samples: Samples, dataset_size: int, columns: Sequence[str]) -> pa.Table:
    """A table with the first samples, each once, in order.

    Raises:
        TrainingError: samples are missing or twice there.
    """
    if isinstance(samples, ShardedSamples):
        samples = samples.read([range(dataset_size)], columns)
    return first_rows(samples, dataset_size, columns)


def read_ranges(samples: Samples, ranges: Sequence[range], columns: Sequence[str]) -> pa.Table:
    """Ranges of samples, end to end.

    Raises:
        TrainingError: samples are missing or twice there.
    """
    if isinstance(samples, ShardedSamples):
        return samples.read(ranges, columns)
    ordered = first_rows(samples, max(part.stop for part in ranges), columns)
    return pa.concat_tables(ordered.slice(part.start, len(part)) for part in ranges)


class StreamedBatches(Generic[B]):
    """The batches of one worker.

    Args:
        order: which samples a step takes.
        open_window: reads a worker's share of a window and makes its batches.
    """

    def __init__(self, order: WindowedOrder, open_window: Callable[[WindowVisits], BatchesByStep[B]]) -> None:
        self._order = order
        self._open_window = open_window

    def loader(self, first_step: int, total_steps: int, loader_workers: int, *, pin_memory: bool) -> Iterator[B]:
        """The batches from `first_step` on, in order, prepared by `loader_workers` processes (0: in this one)."""
        windows = list(self._order.windows(first_step, total_steps))
        with ThreadPoolExecutor(1) as ahead:
            opening = ahead.submit(self._open, windows[0])
            for window, following in zip_longest(windows, windows[1:]):
                batches = opening.result()
                if following is not None:
                    opening = ahead.submit(self._open, following)
                start = max(first_step, window.first_step)
                stop = min(total_steps, window.first_step + window.steps)
                yield from batches.loader(start, stop, loader_workers, pin_memory=pin_memory)

    def _open(self, window: Window) -> BatchesByStep[B]:
        return self._open_window(self._order.share(window))
