"""The prompt of each sample: a pure function of its index.

Sample `i` belongs to class `i mod num_classes` and is that class's sample number `i // num_classes`; the latter picks
the template or caption, in turn. Every prefix of a source is then balanced over classes and over prompts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from syn_ray.core.errors import UserError
from syn_ray.datasets.real import balanced_order, open_images
from syn_ray.datasets.vocabulary import Classes, class_names
from syn_ray.prompts.config import CaptionPrompts, PromptConfig


@dataclasses.dataclass(frozen=True)
class PromptSet:
    """The prompts of every class, in the order in which its samples take them."""

    prompts: tuple[tuple[str, ...], ...]
    """Per class; classes may differ in how many they have."""

    @property
    def num_classes(self) -> int:
        return len(self.prompts)

    def label(self, sample_index: int) -> int:
        return sample_index % self.num_classes

    def prompt(self, sample_index: int) -> str:
        visit, label = divmod(sample_index, self.num_classes)
        choices = self.prompts[label]
        return choices[visit % len(choices)]

    def distinct(self, label: int) -> int:
        """How many different prompts a class has."""
        return len(set(self.prompts[label]))


def make_prompt_set(config: PromptConfig, classes: Classes, study_seed: int) -> PromptSet:
    """Builds a prompt set.

    Args:
        config: which one.
        classes: the vocabulary.
        study_seed: orders the captions. It is also the order of a real source of the same images, so that synthetic
            sample `i` is asked for by the caption of real sample `i`.

    Raises:
        UserError: images without captions, or fewer classes than names.
    """
    names = class_names(classes)
    if isinstance(config, CaptionPrompts):
        return PromptSet(_captions(config, names, study_seed))
    templates = _templates(config.kind)
    return PromptSet(tuple(tuple(dict.fromkeys(template(name) for template in templates)) for name in names))


def _captions(config: CaptionPrompts, names: Sequence[str], study_seed: int) -> tuple[tuple[str, ...], ...]:
    images = open_images(config.images)
    captions = images.captions()
    order = balanced_order(images.labels, len(names), study_seed).reshape(-1, len(names))
    if any(captions[position] is None for position in order[0]):
        raise UserError(
            f"prompts 'captions': the images of '{config.images.name}' have no captions; use another prompt set"
        )
    return tuple(
        tuple(f"{name}, {captions[position]}" for position in order[:, label]) for label, name in enumerate(names)
    )


def _templates(kind: str) -> Sequence[Callable[[str], str]]:
    if kind == "classnames":
        return (str,)
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES  # imports torch

    chosen: Sequence[Callable[[str], str]]
    chosen = SIMPLE_IMAGENET_TEMPLATES if kind == "clip_templates_7" else OPENAI_IMAGENET_TEMPLATES
    return chosen
