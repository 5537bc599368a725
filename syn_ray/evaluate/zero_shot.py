"""Zero-shot classification: a CLIP model and class names make a classifier, which `classify.predict` judges as any.

So the loss is in nats at the learned temperature, exp(logit_scale) times the cosine, as the authors measure it, and
class masks, ranks and per-class values are those of every classifier here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import open_clip
import torch

from syn_ray.core.errors import UserError
from syn_ray.evaluate.classify import predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from syn_ray.evaluate.classify import Predictions
    from syn_ray.evaluate.clip_model import ClipModel

CLASSES_PER_BATCH = 10
"""Classes whose prompts are encoded in one pass: of ImageNet's, 800 texts."""


class ZeroShotClassifier(torch.nn.Module):
    """Images, normalised as the model wants them, to logits.

    Args:
        model: an open_clip model.
        weights: one column a class, [width, classes], from `build_weights`.
    """

    def __init__(self, model: Any, weights: torch.Tensor) -> None:
        super().__init__()
        self.model: Any = model
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [images, classes]. A SigLIP model's bias is left out: it is the same for every class."""
        features = self.model.encode_image(images, normalize=True)
        logits: torch.Tensor = self.model.logit_scale.exp() * features @ self.weights
        return logits


def build_weights(
    clip: ClipModel, class_names: Sequence[str], templates: Sequence[str], *, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """The columns of a zero-shot classifier, by open_clip's own function.

    Each class is the mean of its prompts' features, every one brought to length 1 before and the mean after.

    Args:
        clip: the model; put into eval mode.
        class_names: by label.
        templates: sentences with `{}` for the name.
        device: where texts are encoded.

    Returns:
        float32 [width, classes].

    Raises:
        UserError: there are no classes or templates, or a template has no place for the name.
    """
    if not class_names or not templates:
        raise UserError("zero-shot: a classifier needs class names and templates; give at least one of each")
    for template in templates:
        if template.count("{}") != 1:
            raise UserError(f"zero-shot: the template '{template}' must hold {{}} once, where the class name stands")
    weights: torch.Tensor = open_clip.build_zero_shot_classifier(
        clip.model.to(device).eval(),
        clip.tokenizer,
        list(class_names),
        list(templates),
        num_classes_per_batch=CLASSES_PER_BATCH,
        device=device,
    )
    return weights.float()


def predict_zero_shot(
    clip: ClipModel,
    images: torch.Tensor,
    labels: npt.NDArray[np.integer] | Sequence[int],
    *,
    class_names: Sequence[str],
    templates: Sequence[str],
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    class_masks: Sequence[Sequence[int] | None] = (None,),
) -> list[Predictions]:
    """What a CLIP model says of a set of images when it is given the names of their classes.

    Args:
        clip: the model.
        images: uint8 [images, 3, height, width], from `clip.preprocess.decode`.
        labels: the class of each, a position in `class_names`.
        class_names: by label.
        templates: sentences with `{}` for the name.
        device: where the model is moved and run.
        batch_size: images in one pass; changes no result beyond float rounding.
        class_masks: as `classify.predict` has them.

    Returns:
        Predictions for each of `class_masks`.

    Raises:
        UserError: templates without a place for the name; a label that is no class, or outside a mask.
        MissingResultError: an output is not finite.
    """
    weights = build_weights(clip, class_names, templates, device=device)
    return predict(
        ZeroShotClassifier(clip.model, weights),
        images,
        labels,
        mean=clip.preprocess.mean,
        std=clip.preprocess.std,
        device=device,
        batch_size=batch_size,
        class_masks=class_masks,
    )
