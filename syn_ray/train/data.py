"""The training set as batches: `StepBatches(...)[step]` is one worker's share of that step's global batch.

A batch is a function of the step alone, so any number of loader processes can prepare batches ahead, and a resumed run
starts at its step with nothing to catch up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.utils.data import DataLoader, Dataset

from syn_ray.core.errors import TrainingError, UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.shards.decode import decode_image, image_bytes
from syn_ray.train.augment import (
    PairMix,
    as_uniform,
    draw_bits,
    draw_pair_mix,
    image_transform,
    shift_and_flip,
    transform_each,
)
from syn_ray.train.order import VisitOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from syn_ray.train.config import ClassifyConfig
    from syn_ray.train.order import Order

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Batch(NamedTuple):
    """One worker's share of a step, before what is done on the training device."""

    images: torch.Tensor
    """uint8 [images, 3, image_px, image_px], cropped and flipped."""
    labels: torch.Tensor
    erasing: torch.Tensor
    """float [images, 5]: the draws of `augment.erase`."""
    mix: PairMix


class Batches(Protocol[B_co]):
    """What the training loop takes its steps from."""

    def loader(self, first_step: int, total_steps: int, loader_workers: int, *, pin_memory: bool) -> Iterable[B_co]:
        """The batches from `first_step` on, in order, prepared by `loader_workers` processes (0: in this one)."""


class BatchesByStep(Dataset[B], Generic[B]):
    """Batches of one worker, indexed by step."""

    def loader(self, first_step: int, total_steps: int, loader_workers: int, *, pin_memory: bool) -> DataLoader[B]:
        """The batches from `first_step` on, in order, prepared by `loader_workers` processes (0: in this one)."""
        return DataLoader(
            self,
            batch_size=None,  # an item is a whole batch already
            sampler=range(first_step, total_steps),
            num_workers=loader_workers,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # it draws a base seed that nobody uses; not from the run's rng
        )


class DecodedImages:
    """The images of a table, decoded; kept in memory when all of them fit.

    Args:
        samples: has a column `image`.
        decode: encoded bytes to uint8 [3, height, width]. Must pickle.
        cache_bytes: room for decoded images.
    """

    def __init__(self, samples: pa.Table, decode: Callable[[bytes], torch.Tensor], cache_bytes: int) -> None:
        self._encoded = image_bytes(samples)
        self._decode = decode
        self._decoded = self._decode_all(cache_bytes)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self._decode(self._encoded[row]) if self._decoded is None else self._decoded[row]

    def _decode_all(self, cache_bytes: int) -> list[torch.Tensor] | None:
        """Every image, or None where they do not all fit."""
        if self._decode(self._encoded[0]).numel() * len(self._encoded) > 2 * cache_bytes:
            return None  # seen from the first already, whatever the others' sizes
        images: list[torch.Tensor] = []
        for row in range(len(self._encoded)):
            images.append(self._decode(self._encoded[row]))
            cache_bytes -= images[-1].numel()
            if cache_bytes < 0:
                return None
        return images


class StepBatches(BatchesByStep[Batch]):
    """The batches of one worker, indexed by step.

    Args:
        config: of the training run.
        samples: the dataset, from `checked_labels`; of a streamed one what this worker holds of it.
        seed: of the training run.
        rank: this worker.
        world_size: number of workers.
        cache_bytes: decoded images are kept when all of them fit.
        order: which samples a step takes; None shuffles the whole dataset.
    """

    def __init__(
        self,
        config: ClassifyConfig,
        samples: pa.Table,
        seed: int,
        *,
        rank: int,
        world_size: int,
        cache_bytes: int,
        order: Order | None = None,
    ) -> None:
        self._config = config
        self._seed = seed
        self._augment_seed = derive_seed(seed, "augment")
        self._order = order or VisitOrder(samples.num_rows, config.batch_size, seed, rank, world_size)
        share = config.batch_size // world_size
        if config.mixes and share % 2:
            raise UserError(
                f"batch_size {config.batch_size} gives each of {world_size} training workers {share} images, but mixup "
                "and cutmix take pairs; change train.num_workers in the resources or batch_size"
            )
        self._pairs = slice(rank * share // 2, (rank + 1) * share // 2)
        self._labels = torch.from_numpy(samples.column("label").to_numpy().astype(np.int64))
        self._sample_index = samples.column("sample_index").to_numpy()
        self._transform = image_transform(config.augment, config.image_px)
        shift = config.augment.crop == "shift"
        decode = partial(decode_image, resize_px=config.resize_px, crop_px=config.image_px) if shift else decode_image
        self._images = DecodedImages(samples, decode, cache_bytes)

    def __getitem__(self, step: int) -> Batch:
        config = self._config
        rows, visits = self._order.at(step)
        bits = draw_bits(self._augment_seed, self._sample_index[rows], visits, 9)
        uniform = as_uniform(bits)
        pictures = [self._images[int(row)] for row in rows]
        if config.augment.crop == "shift":
            moved = shift_and_flip(
                torch.stack(pictures), uniform[:, :3], config.augment.shift_px, config.augment.flip_probability
            )
            pictures = list(moved)
        if self._transform is not None:
            pictures = transform_each(self._transform, pictures, bits[:, 8])
        erasing = torch.from_numpy(uniform[:, 3:8].astype(np.float32))
        mix = PairMix(torch.empty(0), torch.empty(0, 4))
        if config.mixes:
            whole = draw_pair_mix(config.augment, self._seed, step, config.batch_size)
            mix = PairMix(whole.weight[self._pairs], whole.box[self._pairs])
        return Batch(torch.stack(pictures), self._labels[torch.from_numpy(rows)], erasing, mix)


def checked_labels(samples: pa.Table, num_classes: int) -> pa.Table:
    """The samples as they are, once each is seen to be of one of the classes.

    Raises:
        TrainingError: one is not.
    """
    labels = samples.column("label")
    low, high = (pc.min_max(labels)[end].as_py() for end in ("min", "max"))
    if labels.null_count or low < 0 or high >= num_classes:
        raise TrainingError(
            f"labels lie between {low} and {high}, {labels.null_count} are null; they must be 0 to {num_classes - 1}"
        )
    return samples


def first_rows(source: pa.Table, dataset_size: int, columns: Sequence[str]) -> pa.Table:
    """The dataset of a size: the first samples of a source, each there once, in order.

    Raises:
        TrainingError: samples are missing or twice there.
    """
    if dataset_size < 1:
        raise TrainingError("a dataset without images cannot be trained on; run generate first")
    indices = source.column("sample_index").to_numpy()
    if (indices[1:] < indices[:-1]).any():
        source = source.take(pa.array(np.argsort(indices, kind="stable")))
        indices = source.column("sample_index").to_numpy()
    # One more than can be there, so that a table that ends too early differs at its end.
    first = np.append(indices[:dataset_size], -1)[:dataset_size]
    wrong = np.flatnonzero(first != np.arange(len(first)))
    if len(wrong):
        raise TrainingError(
            f"sample {wrong[0]} of {dataset_size} is missing or there twice among {source.num_rows} rows; "
            "run `syn-ray verify` on the source and generate again"
        )
    return source.slice(0, dataset_size).select(columns)
