"""What there is to say of a study's prompts before any image is made: which are too long, and which not understood."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syn_ray.core.errors import UserError
from syn_ray.prompts.tokens import TokenCounter, unlearned
from syn_ray.study.plan import StudyPlan
from syn_ray.study.prompts import PromptUse, prompt_uses, used_prompts

WORST = 3


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
        yield from (line for name in use.generators if (line := unlearned_line(use, name, used)))


def unlearned_line(use: PromptUse, generator: str, used: Sequence[str]) -> str:
    """How many prompts have words that a generator does not know; empty where none has."""
    model_id = use.plan.config.generators[generator].model_id
    unknown = unlearned(model_id, used)
    if not unknown:
        return ""
    prompt, word = next(iter(unknown.items()))
    return (
        f"{len(unknown):,} of {len(used):,} prompts of '{use.name}' have words that generator '{generator}' "
        f"({model_id}) never learned, and draws anything for: '{word}' in '{prompt}'"
    )


def _uncounted(generator: str) -> str:
    return f"generator '{generator}': too long prompts cannot be counted, its tokenizer is not on this machine"


def length_line(
    use: PromptUse, generator: str, counter: TokenCounter | None, excess: dict[str, int], total: int
) -> str:
    """How many prompts a generator does not take whole, or that it takes all."""
    if counter is None:
        return _uncounted(generator)
    if not excess:
        return f"generator '{generator}' takes all {total:,} whole: {counter.limit} tokens ({counter.name})"
    return f"{_excess_line(use, generator, counter, excess, total)}; long_prompts: {use.plan.config.long_prompts}"


def _excess_line(use: PromptUse, generator: str, counter: TokenCounter, excess: dict[str, int], total: int) -> str:
    worst = sorted(excess, key=lambda prompt: -excess[prompt])[:WORST]
    examples = ", ".join(f"{excess[prompt]} in '{prompt}'" for prompt in worst)
    return (
        f"{len(excess):,} of {total:,} prompts of '{use.name}' are longer than the {counter.limit} tokens that "
        f"generator '{generator}' takes ({counter.name}): {examples}"
    )
