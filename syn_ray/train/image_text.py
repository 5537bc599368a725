"""Images and captions as batches: `ImageTextBatches(...)[step]` is one worker's share of that step's global batch.

As for labelled images, a batch is a function of the step alone. Where each caption has two images, a real and a
synthetic one, every visit draws which of them it shows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torchvision.transforms import Compose, InterpolationMode, v2
from torchvision.transforms.v2 import functional

from syn_ray.core.errors import TrainingError, UserError
from syn_ray.core.seeds import derive_seed
from syn_ray.shards.decode import decode_image
from syn_ray.train.augment import as_uniform, draw_bits, shift_and_flip, transform_each
from syn_ray.train.clip_model import create_tokenizer
from syn_ray.train.data import BatchesByStep, DecodedImages
from syn_ray.train.order import Order, VisitOrder
from syn_ray.train.schedule import clip_batch_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from syn_ray.train.clip_config import ClipConfig

_CAPTIONS_AT_ONCE = 10_000


class PairBatch(NamedTuple):
    """One worker's share of a step; row i of one belongs to row i of the other."""

    images: torch.Tensor
    """uint8 [pairs, 3, image_px, image_px], cropped."""
    tokens: torch.Tensor
    """int32 [pairs, context length]."""


class ImageTextBatches(BatchesByStep[PairBatch]):
    """The batches of one worker, indexed by step.

    No batch holds a pair twice. Two pairs that have the same caption may meet in one, and count as each other's
    negatives, as in open_clip.

    Args:
        config: of the training run.
        pairs: the dataset, from `checked_pairs`; of a streamed one what this worker holds of it.
        seed: of the training run.
        synthetic: the same captions with other images, for the mixed arm.
        synthetic_probability: of an image from `synthetic` at a visit.
        rank: this worker.
        world_size: number of workers.
        cache_bytes: decoded images are kept when all of them fit.
        order: which samples a step takes; None shuffles the whole dataset.
    """

    def __init__(
        self,
        config: ClipConfig,
        pairs: pa.Table,
        seed: int,
        *,
        synthetic: pa.Table | None = None,
        synthetic_probability: float = 0.5,
        rank: int,
        world_size: int,
        cache_bytes: int,
        order: Order | None = None,
    ) -> None:
        self._augment = config.augment
        self._augment_seed = derive_seed(seed, "augment")
        self._arm_seed = derive_seed(seed, "arm")
        self._order = order or VisitOrder(
            pairs.num_rows,
            clip_batch_size(config, pairs.num_rows),
            seed,
            rank,
            world_size,
            distinct_batches=True,
        )
        self._sample_index = pairs.column("sample_index").to_numpy()
        self._captions = _Captions(pairs.column("text"), create_tokenizer(config), ahead=order is None)
        arms = [pairs] if synthetic is None else [pairs, synthetic]
        decode = _decoder(config)
        self._arms = [DecodedImages(arm, decode, cache_bytes // len(arms)) for arm in arms]
        self._synthetic_probability = synthetic_probability if synthetic is not None else 0.0
        crop = v2.RandomResizedCrop(
            config.image_px, config.augment.crop_scale, interpolation=InterpolationMode.BICUBIC, antialias=True
        )
        self._random_resized = v2.Compose([crop, v2.RandomHorizontalFlip(config.augment.flip_probability)])

    def __getitem__(self, step: int) -> PairBatch:
        rows, visits = self._order.at(step)
        samples = self._sample_index[rows]
        bits = draw_bits(self._augment_seed, samples, visits, 4)
        arms = self._drawn_arms(samples, visits)
        pictures = [self._arms[arm][int(row)] for arm, row in zip(arms, rows, strict=True)]
        if self._augment.crop == "shift":
            uniform = as_uniform(bits)
            images = shift_and_flip(
                torch.stack(pictures), uniform, self._augment.shift_px, self._augment.flip_probability
            )
        else:
            images = torch.stack(transform_each(self._random_resized, pictures, bits[:, 3]))
        return PairBatch(images, self._captions.tokens(rows))

    def unique_images(self, train_steps: int) -> int:
        """Different images that all workers see in the first steps of a dataset that is shuffled whole."""
        assert isinstance(self._order, VisitOrder)
        size = self._order.dataset_size
        whole, rest = divmod(train_steps * self._order.batch_size, size)
        if len(self._arms) == 1:
            return size if whole else rest
        seen = np.zeros((2, size), dtype=bool)
        for epoch in range(whole + 1):
            rows = np.arange(size) if epoch < whole else self._order.epoch(epoch)[:rest]
            seen[self._drawn_arms(rows, np.full_like(rows, epoch)), rows] = True
        return int(seen.sum())

    def _drawn_arms(self, samples: npt.NDArray[np.int64], visits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Whose image is shown at each visit: 0 the real one's, 1 the synthetic one's."""
        uniform = as_uniform(draw_bits(self._arm_seed, samples, visits, 1))[:, 0]
        return (uniform < self._synthetic_probability).astype(np.int64)


def checked_pairs(pairs: pa.Table, dataset_size: int, what: str = "pair") -> pa.Table:
    """The pairs as they are, once each is seen to have an image and a caption.

    Raises:
        TrainingError: one does not.
    """
    text = pairs.column("text")
    for problem, lacking in {
        "image": pc.is_null(pc.struct_field(pairs.column("image"), "bytes")),
        "caption": pc.or_kleene(pc.is_null(text), pc.equal(pc.utf8_trim_whitespace(text), "")),
    }.items():
        row = pc.index(lacking, True).as_py()
        if row >= 0:
            sample = pairs.column("sample_index")[row].as_py()
            raise TrainingError(
                f"{what} {sample} of {dataset_size} has no {problem}; run `syn-ray verify` on the source"
            )
    return pairs


def check_same_captions(real: pa.Table, synthetic: pa.Table) -> None:
    """Whether the images of two datasets belong to the same captions.

    Raises:
        UserError: at the first that differs.
    """
    row = pc.index(pc.not_equal(real.column("text"), synthetic.column("text")), True).as_py()
    if row >= 0:
        one, other = (table.column("text")[row].as_py() for table in (real, synthetic))
        sample = real.column("sample_index")[row].as_py()
        raise UserError(
            f"sample {sample} is '{one}' among the real images and '{other}' among the synthetic ones; "
            "generate the synthetic images from the captions of these real ones"
        )


class _Captions:
    """The captions of a table as tokens.

    Args:
        captions: one a row.
        tokenizer: texts to tokens.
        ahead: each different caption is read once, now; otherwise each when its row is asked for.
    """

    def __init__(
        self, captions: pa.ChunkedArray, tokenizer: Callable[[list[str]], torch.Tensor], *, ahead: bool
    ) -> None:
        self._captions = captions
        self._tokenizer = tokenizer
        if ahead:
            different = captions.unique()
            self._different = torch.cat(
                [
                    tokenizer(different.slice(start, _CAPTIONS_AT_ONCE).to_pylist()).int()
                    for start in range(0, len(different), _CAPTIONS_AT_ONCE)
                ]
            )
            self._which = pc.index_in(captions, different).to_numpy().astype(np.int64)
        self._ahead = ahead

    def tokens(self, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        """int32 [rows, context length]."""
        if self._ahead:
            return self._different[torch.from_numpy(self._which[rows])]
        return self._tokenizer([self._captions[int(row)].as_py() for row in rows]).int()


def _decoder(config: ClipConfig) -> Callable[[bytes], torch.Tensor]:
    if config.augment.crop == "random_resized":
        return decode_image
    evaluation = image_transform_v2(PreprocessCfg(size=config.image_px), is_train=False)
    return partial(_decode_fitted, resize_and_crop=Compose(evaluation.transforms[:2]), image_px=config.image_px)


def _decode_fitted(data: bytes, resize_and_crop: Compose, image_px: int) -> torch.Tensor:
    """One image as uint8 [3, image_px, image_px], resized and cropped as open_clip does for evaluation."""
    image = decode_image(data)
    if image.shape[1:] == (image_px, image_px):
        return image
    fitted: torch.Tensor = functional.pil_to_tensor(resize_and_crop(functional.to_pil_image(image)))
    return fitted
