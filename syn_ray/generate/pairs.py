"""Sources about image-text pairs: their real images, and the index they need."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

from PIL import Image

from syn_ray.core.errors import GenerationError
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import EmbeddedPairs, ImageText
from syn_ray.datasets.image_set import RealImage
from syn_ray.datasets.pair_index import PairIndex
from syn_ray.datasets.pair_samples import UNREADABLE
from syn_ray.datasets.pairs import PairSet, open_pairs
from syn_ray.generate.config import AnySource, ImageFormat, PairSource, SyntheticSource
from syn_ray.generate.encode import fit_file, second_form
from syn_ray.prompts.config import PairCaptions
from syn_ray.shards.schema import Sample


class PairRenderer:
    """Copies the real images of pairs, refitted where their form differs."""

    def __init__(self, source: PairSource, pairs: Storage | None = None) -> None:
        self._source = source
        self._pairs = open_pairs(source.pairs, source.study_seed, pairs, source.split)

    def render(
        self,
        first_index: int,
        rows: int,
        batch_size: int,  # noqa: ARG002 - a renderer's argument
        on_images: Callable[[int], None],
    ) -> list[Sample]:
        indices = range(first_index, first_index + rows)
        samples = [self._sample(*pair) for pair in zip(indices, self._pairs.read(indices), strict=True)]
        on_images(len(samples))
        return samples

    def provenance(self) -> dict[str, Any]:
        return {"real": self._source.pairs.name}

    def take_refusals(self) -> dict[str, int]:
        return {}

    def _sample(self, index: int, real: RealImage) -> Sample:
        form, second = self._source.image, second_form(self._source.image)
        image = self._fit(index, real, form)
        return Sample(index, image, None, real.text, None, None if second is None else fit_file(real.image, second))

    def _fit(self, index: int, real: RealImage, form: ImageFormat) -> bytes:
        try:
            fitted = fit_file(real.image, form)
            if fitted is real.image:  # nothing has looked at more than its header yet
                Image.open(io.BytesIO(fitted)).load()
        except UNREADABLE as error:
            raise GenerationError(
                f"source '{self._source.name}', sample {index} ('{(real.text or '')[:60]}'): its image does not decode "
                f"({error}); set check: decode, and such pairs are left out"
            ) from None
        return fitted


def pairs_of(source: AnySource) -> ImageText | None:
    """The pairs that a source copies or takes its captions from."""
    if isinstance(source, PairSource):
        return source.pairs
    if isinstance(source, SyntheticSource) and isinstance(source.prompts, PairCaptions):
        return source.prompts.pairs
    return None


def open_pairs_of(source: PairSource | SyntheticSource, pairs: Storage) -> PairSet | None:
    """A source's pairs; None where it is not about pairs.

    Args:
        source: the source.
        pairs: the `pairs/` directory of the storage.

    Raises:
        UserError: they are not indexed.
    """
    which = pairs_of(source)
    split = source.split if isinstance(source, PairSource) else "train"
    return None if which is None else open_pairs(which, source.study_seed, pairs, split)


def needed_index(source: AnySource, dataset_size: int | None, shard_size: int) -> tuple[PairIndex, int | None] | None:
    """The index that a source needs, and the pairs that must be in it; None where it needs none.

    Whole shards are made, so there must be pairs for the last one.

    Args:
        source: the source.
        dataset_size: the samples that are wanted; None: all.
        shard_size: samples of a shard.
    """
    pairs = pairs_of(source)
    if pairs is None or isinstance(pairs, EmbeddedPairs) or not isinstance(source, PairSource | SyntheticSource):
        return None
    index = PairIndex(pairs=pairs, study_seed=source.study_seed)
    if isinstance(source, PairSource) and source.split == "held_out":
        return index, pairs.held_out
    if dataset_size is None:
        return index, None
    return index, pairs.held_out + math.ceil(dataset_size / shard_size) * shard_size
