"""The prompt sets of a study: which there are, what a model is still to write, which prompts are too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.table import Table
from rich.text import Text

from syn_ray.core.errors import UserError
from syn_ray.datasets.config import is_at_hand
from syn_ray.datasets.vocabulary import duplicate_names
from syn_ray.generate.config import SyntheticSource
from syn_ray.prompts.cache import WrittenSet, check_images, is_written, lacking
from syn_ray.prompts.config import ModelCaptions, SetConfig, Word2Sen, without_limit
from syn_ray.prompts.prompt_set import PromptSet
from syn_ray.prompts.sets import fitting, make_prompt_set
from syn_ray.prompts.tokens import TokenCounter, counter_at_hand, unlearned
from syn_ray.shards.manifest import read_manifest
from syn_ray.study.curves import Curve
from syn_ray.study.plan import StudyPlan

CLIP_FAMILIES = {"stable_diffusion", "muse"}
"""Families whose text encoder is CLIP's."""
WORST = 3


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


def long_prompts(plan: StudyPlan) -> Iterator[str]:
    """For each set with prompts that a generator does not take whole: how many, the worst, and what is done.

    Also for each set whose prompts nobody can count.

    Raises:
        UserError: the study says `long_prompts: stop`.
    """
    stop = plan.config.long_prompts == "stop"
    for use in prompt_uses(plan):
        prompts = use.build()
        used = used_prompts(prompts, use.samples)
        for generator, counter in use.counters().items():
            if counter is None:
                line = f"prompts of '{use.name}' for {_uncounted(generator)}"
                remedy = f"fetch the generator with `hf download {plan.config.generators[generator].model_id}`"
                if stop:
                    raise UserError(f"long_prompts: {line}; {remedy}, or set it to truncate")
                yield f"{line}; long_prompts: {plan.config.long_prompts}"
                continue
            excess = counter.excess(used)
            if excess:
                line = _excess_line(use, generator, counter, excess, len(used))
                if stop:
                    raise UserError(f"long_prompts: {line}; set it to truncate or drop, or take another prompt set")
                yield f"{line}; long_prompts: {plan.config.long_prompts}"


def unlearned_prompts(plan: StudyPlan) -> Iterator[str]:
    """For each set and each embedded generator: how many prompts have words that it does not know."""
    for use in prompt_uses(plan):
        used = used_prompts(use.build(), use.samples)
        yield from (line for name in use.generators if (line := _unlearned_line(use, name, used)))


def used_prompts(prompts: PromptSet, samples: int) -> list[str]:
    """The distinct prompts that the first `samples` samples take."""
    return list(dict.fromkeys(p for label in range(prompts.num_classes) for p in prompts.first(label, samples)))


def _unlearned_line(use: PromptUse, generator: str, used: Sequence[str]) -> str:
    model_id = use.plan.config.generators[generator].model_id
    unknown = unlearned(model_id, used)
    if not unknown:
        return ""
    prompt, word = next(iter(unknown.items()))
    return (
        f"{len(unknown):,} of {len(used):,} prompts of '{use.name}' have words that generator '{generator}' "
        f"({model_id}) never learned, and draws anything for: '{word}' in '{prompt}'"
    )


def _excess_line(use: PromptUse, generator: str, counter: TokenCounter, excess: dict[str, int], total: int) -> str:
    worst = sorted(excess, key=lambda prompt: -excess[prompt])[:WORST]
    examples = ", ".join(f"{excess[prompt]} in '{prompt}'" for prompt in worst)
    return (
        f"{len(excess):,} of {total:,} prompts of '{use.name}' are longer than the {counter.limit} tokens that "
        f"generator '{generator}' takes ({counter.name}): {examples}"
    )


def describe_prompts(plan: StudyPlan, show: int, classes: int) -> Iterator[Table | str]:
    """What `syn-ray prompts` prints: each set with its first prompts of the first classes, and its numbers."""
    if plan.config.pairs is not None:
        yield (
            f"each caption of the pairs '{plan.config.pairs.name}' is the prompt of one image; "
            "what a text encoder does not take is cut off"
        )
        return
    shared = duplicate_names(plan.config.classes)
    if shared:
        pairs = ", ".join(f"{name} ({', '.join(map(str, labels))})" for name, labels in shared.items())
        yield f"classes that share a name, and so their prompts: {pairs}"
    waiting = {use.name for use in unwritten(plan)}
    for use in prompt_uses(plan):
        curves = ", ".join(curve.name for curve in use.curves)
        if use.name in waiting:
            yield f"\nprompt set {use.name} of {curves}: {use.to_do}"
            continue
        prompts = use.build()
        counters = use.counters()
        excess = {name: c.excess(used_prompts(prompts, use.samples)) for name, c in counters.items() if c is not None}
        yield f"\nprompt set {use.name} of {curves}"
        shown = _shown(plan, prompts, next(iter(counters.values())))
        yield _table(plan, use, shown, {prompt for found in excess.values() for prompt in found}, show, classes)
        yield _numbers(use, shown)
        for name, counter in counters.items():
            yield _length(use, name, counter, excess.get(name, {}), len(used_prompts(prompts, use.samples)))
        used = used_prompts(shown, use.samples)
        yield from (line for name in use.generators if (line := _unlearned_line(use, name, used)))


def _shown(plan: StudyPlan, prompts: PromptSet, counter: TokenCounter | None) -> PromptSet:
    """The prompts as the generator will get them."""
    if plan.config.long_prompts != "drop" or counter is None:
        return prompts
    return fitting(prompts, counter, plan.class_names)


def _table(plan: StudyPlan, use: PromptUse, prompts: PromptSet, long: set[str], show: int, classes: int) -> Table:
    table = Table("class", "distinct", "repeats", "too long", f"first {show}")
    for label, name in enumerate(plan.class_names[:classes]):
        used = prompts.first(label, use.samples)
        table.add_row(
            Text(name),
            f"{prompts.distinct(label):,}",
            f"{prompts.repeats(label, use.samples):,}",
            str(len(long.intersection(used))),
            Text("\n".join(dict.fromkeys(prompts.first(label, show * prompts.num_classes)))),
        )
    if len(plan.class_names) > classes:
        table.add_row(f"and {len(plan.class_names) - classes:,} more", "", "", "", "")
    return table


def _numbers(use: PromptUse, prompts: PromptSet) -> str:
    distinct = _range([prompts.distinct(label) for label in range(prompts.num_classes)])
    repeats = _range([prompts.repeats(label, use.samples) for label in range(prompts.num_classes)])
    return f"distinct prompts of a class: {distinct}; samples that share one, at most, of {use.samples:,}: {repeats}"


def _range(values: list[int]) -> str:
    return f"{min(values):,}" if min(values) == max(values) else f"{min(values):,} to {max(values):,}"


def _uncounted(generator: str) -> str:
    return f"generator '{generator}': too long prompts cannot be counted, its tokenizer is not on this machine"


def _length(use: PromptUse, generator: str, counter: TokenCounter | None, excess: dict[str, int], total: int) -> str:
    if counter is None:
        return _uncounted(generator)
    if not excess:
        return f"generator '{generator}' takes all {total:,} whole: {counter.limit} tokens ({counter.name})"
    return f"{_excess_line(use, generator, counter, excess, total)}; long_prompts: {use.plan.config.long_prompts}"
