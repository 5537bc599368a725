"""What a classifier says about labelled images: a loss and a rank for each, from which every metric follows.

Decoding stands apart (`shards.decode.decode_images`, with the official resize and centre crop), so that a set is
decoded once for all runs of a study.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from syn_ray.core.errors import MissingResultError, UserError
from syn_ray.shards.decode import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Predictions:
    """One entry for each image, in the order of the set."""

    loss: npt.NDArray[np.float32]
    """Cross-entropy in nats."""
    label: npt.NDArray[np.int32]
    rank_of_label: npt.NDArray[np.int16]
    """Classes that are preferred to the right one: 0 is correct, below 5 is correct within the first five."""
    predicted: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.loss)


def predict(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: npt.NDArray[np.integer] | Sequence[int],
    *,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    class_masks: Sequence[Sequence[int] | None] = (None,),
) -> list[Predictions]:
    """Runs a model over a set of images once, in float32.

    Args:
        model: images to logits; put into eval mode.
        images: uint8 [images, 3, height, width], from `decode_images`.
        labels: the class of each.
        mean: of the normalisation, as in training.
        std: of the normalisation, as in training.
        device: where the model is moved and run.
        batch_size: images in one pass; changes no result beyond float rounding.
        class_masks: for each, one result: the classes that may be answered (the 200 of ImageNet-A), or None for all.

    Returns:
        Predictions for each of `class_masks`.

    Raises:
        UserError: a label is no class of the model, or outside a mask.
        MissingResultError: an output is not finite: there is no loss to report.
    """
    target = torch.from_numpy(np.array(labels, dtype=np.int64))
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # as in training
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = normalize(images[start : start + batch_size].to(device), mean, std)
            outputs.append(model(batch.contiguous(memory_format=torch.channels_last)).float().cpu())
    logits = torch.cat(outputs)
    _check(logits, target)
    return [_judge(logits, target, mask) for mask in class_masks]


def _check(logits: torch.Tensor, target: torch.Tensor) -> None:
    if len(logits) != len(target):
        raise UserError(f"{len(logits)} images, but {len(target)} labels; the evaluation set is damaged")
    if not logits.isfinite().all():
        bad = int((~logits.isfinite()).any(1).nonzero()[0])
        raise MissingResultError(f"the model's output for image {bad} is not finite: training diverged; train it again")
    classes = logits.shape[1]
    if target.min() < 0 or target.max() >= classes:
        raise UserError(f"labels lie between {target.min()} and {target.max()}; the model has {classes} classes")


def _judge(logits: torch.Tensor, target: torch.Tensor, mask: Sequence[int] | None) -> Predictions:
    if mask is not None:
        allowed = torch.zeros(logits.shape[1], dtype=torch.bool)
        allowed[list(mask)] = True
        if not allowed[target].all():
            raise UserError(f"class {int(target[~allowed[target]][0])} occurs in the set but not in its class mask")
        logits = logits.masked_fill(~allowed, float("-inf"))
    right = logits.gather(1, target[:, None])
    # A tie goes to the lower class, as argmax has it: a model that answers everything alike is right once a class.
    lower = torch.arange(logits.shape[1]) < target[:, None]
    rank = ((logits > right) | ((logits == right) & lower)).sum(1)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return Predictions(
        loss=loss.numpy().astype(np.float32),
        label=target.numpy().astype(np.int32),
        rank_of_label=rank.numpy().astype(np.int16),
        predicted=logits.argmax(1).numpy().astype(np.int32),
    )


def metrics(predictions: Predictions) -> dict[str, float]:
    """Mean cross-entropy in nats, and the fractions right at first and within the first five.

    Raises:
        MissingResultError: there are no images to take a mean of.
    """
    if not len(predictions):
        raise MissingResultError("an evaluation set without images has no loss; check the set's source")
    return {
        "loss": float(predictions.loss.mean(dtype=np.float64)),
        "top1": float((predictions.rank_of_label < 1).mean()),
        "top5": float((predictions.rank_of_label < 5).mean()),
    }


def mean_per_class(predictions: Predictions) -> float:
    """The mean over the classes that occur of the fraction right at first, so that every class counts alike.

    Raises:
        MissingResultError: there are no images to take a mean of.
    """
    if not len(predictions):
        raise MissingResultError("an evaluation set without images has no accuracy; check the set's source")
    images = np.bincount(predictions.label)
    right = np.bincount(predictions.label, weights=predictions.rank_of_label < 1)
    return float((right[images > 0] / images[images > 0]).mean())


def per_class(predictions: Predictions, class_names: Sequence[str]) -> pd.DataFrame:
    """The metrics of each class that occurs: columns class_index, class_name, images, loss, top1, top5."""
    rows = []
    for index in np.unique(predictions.label):
        chosen = predictions.label == index
        part = Predictions(
            predictions.loss[chosen],
            predictions.label[chosen],
            predictions.rank_of_label[chosen],
            predictions.predicted[chosen],
        )
        entry = {"class_index": int(index), "class_name": class_names[index], "images": len(part)}
        rows.append(entry | metrics(part))
    return pd.DataFrame(rows)
