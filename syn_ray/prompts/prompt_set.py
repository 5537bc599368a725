"""The prompt of each sample: a pure function of its index.

Sample `i` belongs to class `i mod num_classes` and is that class's sample number `i // num_classes`; the latter picks
the template, sentence or caption, in turn. Every prefix of a source is then balanced over classes and over prompts.
Without classes, sample `i` takes prompt `i` and has no label.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Protocol

from syn_ray.core.errors import UserError


class Prompts(Protocol):
    """What a generator is asked for, sample by sample."""

    def label(self, sample_index: int) -> int | None:
        """The class of a sample; None where there are no classes."""

    def prompt(self, sample_index: int) -> str:
        """What the generator is asked for."""


@dataclasses.dataclass(frozen=True)
class PromptSet:
    """The prompts of every class, in the order in which its samples take them."""

    prompts: tuple[tuple[str, ...], ...]
    """Per class; classes may differ in how many they have. Without classes, all of them as if of one."""
    periods: tuple[int, ...] | None = None
    """How many prompts each class will have, where only those of the first samples are written yet."""
    labelled: bool = True
    """False: there are no classes."""

    @property
    def num_classes(self) -> int:
        return len(self.prompts)

    def label(self, sample_index: int) -> int | None:
        return sample_index % self.num_classes if self.labelled else None

    def prompt(self, sample_index: int) -> str:
        """What the generator is asked for.

        Raises:
            UserError: a model has not written the prompts of this many samples.
        """
        visit, label = divmod(sample_index, self.num_classes)
        place = visit % self._period(label)
        if place >= len(self.prompts[label]):
            raise UserError(
                f"sample {sample_index} has no prompt yet: its class's first {len(self.prompts[label])} are written; "
                "run `syn-ray prompts` for the study"
            )
        return self.prompts[label][place]

    def first(self, label: int, dataset_size: int) -> tuple[str, ...]:
        """The prompts of a class that the first `dataset_size` samples take."""
        return self.prompts[label][: self._visits(label, dataset_size)]

    def distinct(self, label: int) -> int:
        """How many different prompts a class has."""
        return len(set(self.prompts[label]))

    def repeats(self, label: int, dataset_size: int) -> int:
        """How many of the first `dataset_size` samples, at most, share one prompt of a class."""
        rounds, rest = divmod(self._visits(label, dataset_size), self._period(label))
        counts = collections.Counter(self.prompts[label])
        partly = collections.Counter(self.prompts[label][:rest])
        return max((rounds * count + partly[prompt] for prompt, count in counts.items()), default=0)

    def _period(self, label: int) -> int:
        return self.periods[label] if self.periods else len(self.prompts[label])

    def _visits(self, label: int, dataset_size: int) -> int:
        return len(range(label, dataset_size, self.num_classes))
