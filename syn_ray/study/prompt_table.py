"""What `syn-ray prompts` prints: each prompt set with examples and its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from syn_ray.datasets.vocabulary import duplicate_names
from syn_ray.prompts.prompt_set import PromptSet
from syn_ray.prompts.sets import fitting
from syn_ray.prompts.tokens import TokenCounter
from syn_ray.study.plan import StudyPlan
from syn_ray.study.prompt_remarks import length_line, unlearned_line
from syn_ray.study.prompts import PromptUse, prompt_uses, unwritten, used_prompts


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
            yield length_line(use, name, counter, excess.get(name, {}), len(used_prompts(prompts, use.samples)))
        used = used_prompts(shown, use.samples)
        yield from (line for name in use.generators if (line := unlearned_line(use, name, used)))


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
