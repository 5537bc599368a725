"""Retrieval among held-out pairs: does an image find its caption, and a caption its image?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from syn_ray.core.errors import MissingResultError, UserError
from syn_ray.evaluate.evaluation import WITHIN

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 1024
"""Queries compared with everything at once: 4 MB for each 1,000 candidates."""


def recall(
    image_features: torch.Tensor,
    text_features: torch.Tensor,
    image_of_text: Sequence[int] | torch.Tensor,
    *,
    within: Sequence[int] = WITHIN,
    chunk: int = CHUNK,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Recall of both directions.

    A caption that stands under several images counts as each image's own only, as is usual; so data with repeated
    captions cannot reach 1.

    Args:
        image_features: [images, width], of length 1 each.
        text_features: [texts, width], of length 1 each.
        image_of_text: the position of each text's image; an image may have several texts, and must have one.
        within: how many of the best answers are looked at.
        chunk: queries at a time; changes no result.
        device: where features are compared.

    Returns:
        `image_to_text_recall_at_5`, the fraction of images with one of their captions among the best five, and so on;
        `text_to_image_recall_at_5`, the fraction of captions with their image among the best five, and so on.

    Raises:
        UserError: an image without a caption, or a caption of an image that is not there.
        MissingResultError: there are no pairs, or a feature is not finite.
    """
    owner = torch.as_tensor(image_of_text, dtype=torch.int64)
    _check(image_features, text_features, owner)
    images, texts, owner = image_features.to(device), text_features.to(device), owner.to(device)
    image_ranks = torch.cat(
        [_image_ranks(images[first : first + chunk] @ texts.T, owner, first) for first in range(0, len(images), chunk)]
    )
    text_ranks = torch.cat(
        [
            _text_ranks(texts[first : first + chunk] @ images.T, owner[first : first + chunk])
            for first in range(0, len(texts), chunk)
        ]
    )
    return {
        f"{name}_recall_at_{count}": float((ranks < count).double().mean())
        for name, ranks in (("image_to_text", image_ranks), ("text_to_image", text_ranks))
        for count in within
    }


def _check(images: torch.Tensor, texts: torch.Tensor, owner: torch.Tensor) -> None:
    if not len(images) or not len(texts):
        raise MissingResultError(
            f"retrieval among {len(images)} images and {len(texts)} texts has no recall; give pairs"
        )
    if len(owner) != len(texts):
        raise UserError(f"retrieval: {len(texts)} texts, but {len(owner)} positions of their images; give one a text")
    if owner.min() < 0 or owner.max() >= len(images):
        raise UserError(f"retrieval: texts point to images {owner.min()} to {owner.max()} of {len(images)}")
    lacking = torch.bincount(owner, minlength=len(images)) == 0
    if lacking.any():
        raise UserError(f"retrieval: image {int(lacking.nonzero()[0])} has no caption; leave it out")
    if not (images.isfinite().all() and texts.isfinite().all()):
        raise MissingResultError("retrieval: a feature is not finite: training diverged; train the model again")


def _image_ranks(similarity: torch.Tensor, owner: torch.Tensor, first: int) -> torch.Tensor:
    """How many texts stand before the best of each image's own: similarity [chunk, texts] of images `first`, ..."""
    own = owner == torch.arange(first, first + len(similarity), device=owner.device)[:, None]
    best, place = similarity.masked_fill(~own, float("-inf")).max(1, keepdim=True)
    return _before(similarity, best, place)


def _text_ranks(similarity: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """How many images stand before each text's own: similarity [chunk, images]."""
    place = owner[:, None]
    return _before(similarity, similarity.gather(1, place), place)


def _before(similarity: torch.Tensor, best: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    # A tie goes to the lower position, as in classification: a model that finds everything alike is at chance.
    lower = torch.arange(similarity.shape[1], device=similarity.device) < place
    return ((similarity > best) | ((similarity == best) & lower)).sum(1)
