"""How a training set is streamed that is too large to be held: part of what is computed, as it fixes the order."""

from __future__ import annotations

import pydantic

from syn_ray.core.config import Config


class StreamConfig(Config):
    """Datasets larger than a window are read as training comes to them, and shuffled window by window.

    Source: shuffling the order of shards and the samples of a buffer is how LAION-scale sets are read (webdataset,
    open_clip). The paper does not say how its were.
    """

    window: pydantic.PositiveInt = 524_288
    """Samples that are shuffled together, held in memory by all workers together, each its share. Smaller datasets
    are held whole by each node and shuffled whole."""
    lanes: pydantic.PositiveInt = 256
    """Parts of a batch that are read apart; the number of workers divides it, and it divides the batch size."""
    chunk: pydantic.PositiveInt = 1024
    """Neighbouring samples that stay in one window; at best a multiple of the source's shard size."""


def check_stream(stream: StreamConfig | None, batch_size: int) -> None:
    """Whether a batch goes with the windows that it is taken from.

    Raises:
        ValueError: it does not; pydantic tells where.
    """
    if stream is None:
        return
    if batch_size % stream.lanes:
        raise ValueError(
            f"stream: {stream.lanes} lanes do not share batch_size {batch_size} evenly; give lanes that divide it"
        )
    if stream.window < batch_size:
        raise ValueError(
            f"stream: a window of {stream.window} samples holds no batch of {batch_size}; raise window or lower "
            "batch_size"
        )
