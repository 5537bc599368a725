"""The texts of consecutive places of a set that a model writes. No Ray here."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from syn_ray.core.errors import GenerationError
from syn_ray.core.seeds import derive_seed
from syn_ray.datasets.image_set import RealImage
from syn_ray.datasets.real import UNREADABLE, open_images, why_unreadable
from syn_ray.datasets.vocabulary import class_names
from syn_ray.prompts.cache import WrittenSet, image_orders
from syn_ray.prompts.config import ModelCaptions, Word2Sen
from syn_ray.prompts.model import TextWriter

Row = tuple[int, int, str]
"""Label, visit, text."""
T = TypeVar("T")


class PromptWriter:
    """Holds the model of a set and writes any of its shards."""

    def __init__(self, written: WrittenSet) -> None:
        self._written = written
        self._names = class_names(written.classes)
        self._model = TextWriter(written.prompts.model)

    def write(self, first_place: int, places: int, batch_size: int) -> list[Row]:
        """The rows of `places` consecutive places.

        Raises:
            GenerationError: the model wrote nothing but empty sentences for a class.
        """
        config = self._written.prompts
        if isinstance(config, ModelCaptions):
            return self._captions(config, range(first_place, first_place + places), batch_size)
        labels = range(first_place, min(first_place + places, len(self._names)))
        return [row for label in labels for row in self._sentences(config, label, batch_size)]

    @cached_property
    def _orders(self) -> list[npt.NDArray[np.int64]]:
        return image_orders(self._written)

    def _sentences(self, config: Word2Sen, label: int, batch_size: int) -> list[Row]:
        """He et al.: more sentences than are needed, without duplicates, as many as are needed."""
        seeds = [
            derive_seed(self._written.study_seed, "word2sen", label, number)
            for number in range(config.sentences + config.spare)
        ]
        name = self._names[label]
        written = [t for part in _parts(seeds, batch_size) for t in self._model.write([name] * len(part), part)]
        distinct = list(dict.fromkeys(text for text in written if text))[: config.sentences]
        if not distinct:
            raise GenerationError(
                f"prompts 'word2sen': {config.model.model_id} wrote {len(written)} empty sentences for class '{name}'; "
                "take another model or prompt"
            )
        return [(label, visit, text) for visit, text in enumerate(distinct)]

    def _captions(self, config: ModelCaptions, samples: range, batch_size: int) -> list[Row]:
        """A caption for each image when its class first comes to it; later samples repeat it."""
        images = open_images(config.images, self._written.classes)
        firsts = [(i, *divmod(i, len(self._names))) for i in samples]
        firsts = [(i, visit, label) for i, visit, label in firsts if visit < len(self._orders[label])]
        rows: list[Row] = []
        for part in _parts(firsts, batch_size):
            read = images.read([int(self._orders[label][visit]) for _, visit, label in part])
            pictures = [_decode(real) for real in read]
            seeds = [derive_seed(self._written.study_seed, "caption", index) for index, _, _ in part]
            texts = self._model.write(pictures, seeds)
            rows += [(label, visit, text) for (_, visit, label), text in zip(part, texts, strict=True)]
        return rows


def _decode(real: RealImage) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(real.image))
        picture.load()
    except UNREADABLE as error:
        raise GenerationError(
            f"prompts 'model_captions': the image '{real.file}' does not decode ({why_unreadable(error)}); restore it, "
            "or take it out of its folder and give the set another name"
        ) from None
    return picture


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
