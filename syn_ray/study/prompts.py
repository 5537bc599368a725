"""The prompt sets of a study: which there are, who draws by them, what a model is still to write."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from syn_ray.datasets.config import is_at_hand
from syn_ray.generate.config import SyntheticSource
from syn_ray.prompts.cache import WrittenSet, check_images, is_written, lacking
from syn_ray.prompts.config import ModelCaptions, SetConfig, Word2Sen, without_limit
from syn_ray.prompts.prompt_set import PromptSet
from syn_ray.prompts.sets import make_prompt_set
from syn_ray.prompts.tokens import TokenCounter, counter_at_hand
from syn_ray.shards.manifest import read_manifest
from syn_ray.study.curves import Curve
from syn_ray.study.plan import StudyPlan

CLIP_FAMILIES = {"stable_diffusion", "muse"}
"""Families whose text encoder is CLIP's."""


@dataclass(frozen=True)
class PromptUse:
    """A prompt set of a study and the curves that use it."""

    plan: StudyPlan
    name: str
    curves: tuple[Curve, ...]

    @cached_property
    def sources(self) -> list[SyntheticSource]:
        """One of each curve."""
        return [curve.drawn for curve in self.curves if curve.drawn is not None]

    @cached_property
    def generators(self) -> list[str]:
        """The study's names of those that it is drawn by."""
        return list(dict.fromkeys(curve.generator for curve in self.curves if curve.generator is not None))

    @property
    def config(self) -> SetConfig:
        """The set itself, too long prompts included."""
        return without_limit(self.sources[0].prompts)

    @cached_property
    def samples(self) -> int:
        """The samples that need prompts."""
        return max(self.plan.images_needed(curve) for curve in self.curves)

    @property
    def written(self) -> WrittenSet | None:
        """What a model has to write; None for a set that needs none."""
        config, source = self.config, self.sources[0]
        if not isinstance(config, ModelCaptions | Word2Sen) or source.classes is None:
            return None
        return WrittenSet(prompts=config, classes=source.classes, study_seed=source.study_seed)

    @property
    def model_id(self) -> str:
        return self.written.prompts.model.model_id if self.written else ""

    @property
    def lacking(self) -> str | None:
        """Why its model cannot write here."""
        return lacking(self.written) if self.written else None

    @property
    def to_do(self) -> str:
        """What a model is to write, in words."""
        config = self.config
        if isinstance(config, Word2Sen):
            what = f"{config.sentences} sentences a class"
        else:
            what = f"captions of the training images that the first {self.samples:,} samples name"
        return f"{what}, to be written by {self.model_id}{f'; {self.lacking}' if self.lacking else ''}"

    def check_images(self) -> None:
        """Raises a UserError where captions were begun with other images than a folder on this machine holds now."""
        written, config = self.written, self.config
        if written is None or (isinstance(config, ModelCaptions) and not is_at_hand(config.images)):
            return
        manifest = read_manifest(self.plan.prompts / written.directory_name, written.fingerprint)
        if manifest is not None:
            check_images(written, manifest)

    def build(self) -> PromptSet:
        """The prompts, too long ones included."""
        source = self.sources[0]
        return make_prompt_set(self.config, source.classes, source.study_seed, self.plan.prompts)

    def counters(self) -> dict[str, TokenCounter | None]:
        """By the study's name for each generator that it is drawn by: who counts its tokens; None where nobody can."""
        pairs = {
            curve.generator or "": source.generator for curve, source in zip(self.curves, self.sources, strict=True)
        }
        return {
            name: counter_at_hand(generator.model_id, generator.revision, clip=generator.family in CLIP_FAMILIES)
            for name, generator in pairs.items()
        }


def prompt_uses(plan: StudyPlan) -> list[PromptUse]:
    """Every prompt set of a study, by the study's name for it. The captions of pairs are none: they are data."""
    if plan.config.trains_clip:
        return []
    names = dict.fromkeys(curve.prompts for curve in plan.curves if curve.prompts is not None)
    return [PromptUse(plan, name, tuple(c for c in plan.curves if c.prompts == name)) for name in names]


def unwritten(plan: StudyPlan) -> list[PromptUse]:
    """The sets of which a model has texts to write."""
    return [
        use
        for use in prompt_uses(plan)
        if use.written is not None and not is_written(use.written, use.samples, plan.prompts)
    ]


def used_prompts(prompts: PromptSet, samples: int) -> list[str]:
    """The distinct prompts that the first `samples` samples take."""
    return list(dict.fromkeys(p for label in range(prompts.num_classes) for p in prompts.first(label, samples)))
