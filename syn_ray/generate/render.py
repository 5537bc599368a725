"""Samples `first_index ... first_index + rows - 1` of a source, ready to be written. No Ray here.

Batches start at multiples of the batch size inside a shard and shards at multiples of the shard size, so a sample
always meets the same neighbours, whoever renders it.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from syn_ray.core.errors import GenerationError
from syn_ray.core.seeds import sample_seed
from syn_ray.core.storage import Storage
from syn_ray.datasets.image_set import RealImage
from syn_ray.datasets.pair_index import pairs_beside
from syn_ray.datasets.real import UNREADABLE, balanced_order, open_images, why_unreadable
from syn_ray.datasets.vocabulary import class_names
from syn_ray.generate.config import AnySource, EvaluationSource, ImageFormat, PairSource, RealSource, SyntheticSource
from syn_ray.generate.encode import encode_pixels, fit_file, second_form
from syn_ray.generate.gate import refused
from syn_ray.generate.pairs import PairRenderer
from syn_ray.generate.protocol import ImageGenerator, Pixels
from syn_ray.prompts.sets import open_prompts
from syn_ray.shards.schema import Sample

OnImages = Callable[[int], None]
"""Called with the number of images just made."""


class Renderer(Protocol):
    """Makes the samples of one source."""

    def render(self, first_index: int, rows: int, batch_size: int, on_images: OnImages) -> list[Sample]:
        """The samples in order, encoded."""

    def provenance(self) -> dict[str, Any]:
        """How the images come to be; the same for every shard."""

    def take_refusals(self) -> dict[str, int]:
        """Images refused since the last call, by reason."""


def source_rows(source: RealSource | EvaluationSource) -> int:
    """How many samples a source of real images has."""
    labels = open_images(source.images, source.classes).labels
    if isinstance(source, EvaluationSource):
        return len(labels)
    return len(balanced_order(labels, len(class_names(source.classes)), source.study_seed))


class RealRenderer:
    """Copies real images, refitted where their form differs."""

    def __init__(self, source: RealSource | EvaluationSource) -> None:
        self._source = source
        self._images = open_images(source.images, source.classes)
        labels = self._images.labels
        if isinstance(source, RealSource):
            self._order = balanced_order(labels, len(class_names(source.classes)), source.study_seed)
        else:
            self._order = np.arange(len(labels))
        self._labels = labels[self._order]

    def render(self, first_index: int, rows: int, batch_size: int, on_images: OnImages) -> list[Sample]:  # noqa: ARG002
        positions = self._order[first_index : first_index + rows].tolist()
        samples = [self._sample(i, real) for i, real in enumerate(self._images.read(positions), start=first_index)]
        on_images(len(samples))
        return samples

    def _sample(self, index: int, real: RealImage) -> Sample:
        form, second = self._source.image, second_form(self._source.image)
        try:
            fitted = fit_file(real.image, form)
            copy = None if second is None else fit_file(real.image, second)
        except UNREADABLE as error:
            file = "its image" if real.file is None else f"'{real.file}'"
            raise GenerationError(
                f"source '{self._source.name}', sample {index}: {file} does not decode ({why_unreadable(error)}); "
                "restore it, or take it out of its folder and give the set another name"
            ) from None
        return Sample(index, fitted, int(self._labels[index]), real.text, None, copy)

    def provenance(self) -> dict[str, Any]:
        return {"real": self._source.images.name}

    def take_refusals(self) -> dict[str, int]:
        return {}


class SyntheticRenderer:
    """Asks a generator for each sample's prompt, with each sample's noise."""

    def __init__(self, source: SyntheticSource, generator: ImageGenerator, prompts: Storage | None = None) -> None:
        self._source = source
        self._generator = generator
        self._prompts = open_prompts(source.prompts, source.classes, source.study_seed, prompts)
        self._refusals: collections.Counter[str] = collections.Counter()

    def render(self, first_index: int, rows: int, batch_size: int, on_images: OnImages) -> list[Sample]:
        files: list[Future[list[tuple[bytes, bytes | None]]]] = []
        seeds: list[int] = []
        end = first_index + rows
        self._generator.prepare(list(dict.fromkeys(self._prompts.prompt(i) for i in range(first_index, end))))
        with ThreadPoolExecutor(max_workers=1) as encoder:  # encodes while the generator draws the next batch
            for start in range(first_index, end, batch_size):
                images, used = self._draw(range(start, min(start + batch_size, end)))
                files.append(encoder.submit(_encode, images, self._source.image))
                seeds += used
                on_images(len(images))
            encoded = [file for batch in files for file in batch.result()]
        return [
            Sample(index, file, self._prompts.label(index), self._prompts.prompt(index), seed, second)
            for index, (file, second), seed in zip(range(first_index, end), encoded, seeds, strict=True)
        ]

    def provenance(self) -> dict[str, Any]:
        return self._generator.provenance()

    def take_refusals(self) -> dict[str, int]:
        counts = dict(self._refusals)
        self._refusals.clear()
        return counts

    def _draw(self, indices: range) -> tuple[Pixels, list[int]]:
        """Images and seeds of consecutive samples; refused ones are drawn again from their next seeds."""
        seeds = [sample_seed(self._source.study_seed, index) for index in indices]
        images = self._generate([self._prompts.prompt(index) for index in indices], seeds)
        for attempt in range(1, self._source.gate.attempts + 1):
            reasons = refused(images, self._source.gate)
            bad = [position for position, reason in enumerate(reasons) if reason is not None]
            if not bad:
                return images, seeds
            self._refusals.update(reason for reason in reasons if reason is not None)
            if attempt == self._source.gate.attempts:
                break
            for position in bad:
                seeds[position] = sample_seed(self._source.study_seed, indices[position], attempt)
            prompts = [self._prompts.prompt(indices[position]) for position in bad]
            images[bad] = self._generate(prompts, [seeds[position] for position in bad])
        index = indices[bad[0]]
        raise GenerationError(
            f"source '{self._source.name}', sample {index}: {self._source.gate.attempts} images in a row were refused "
            f"({reasons[bad[0]]}), the prompt is '{self._prompts.prompt(index)}'; change it or the gate's limits"
        )

    def _generate(self, prompts: list[str], seeds: list[int]) -> Pixels:
        """One batch; where the GPU's memory does not hold it, two halves."""
        import torch  # whoever draws has loaded it; a plan needs none

        try:
            return self._generator.generate(prompts, seeds, self._source.guidance_scale)
        except torch.cuda.OutOfMemoryError:
            if len(prompts) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(prompts) // 2
        return np.concatenate(
            [self._generate(prompts[:half], seeds[:half]), self._generate(prompts[half:], seeds[half:])]
        )


def _encode(images: Pixels, form: ImageFormat) -> list[tuple[bytes, bytes | None]]:
    """Each image's file, and its second file where two sizes are wanted."""
    second = second_form(form)
    copies = [None] * len(images) if second is None else encode_pixels(images, second)
    return list(zip(encode_pixels(images, form), copies, strict=True))


def make_renderer(
    source: AnySource,
    generator: ImageGenerator | None,
    prompts: Storage | None = None,
) -> Renderer:
    """The renderer of a source.

    Args:
        source: what is rendered.
        generator: a synthetic source's.
        prompts: the `prompts/` directory of the storage, where a model wrote the source's prompts; `pairs/` lies beside
            it, where the source is about pairs in files.
    """
    if isinstance(source, SyntheticSource):
        assert generator is not None
        return SyntheticRenderer(source, generator, prompts)
    if isinstance(source, PairSource):
        return PairRenderer(source, None if prompts is None else pairs_beside(prompts))
    return RealRenderer(source)
