"""Builds prompt sets: rules here, files in texts.py, what a model wrote in cache.py, captions of pairs in datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syn_ray.core.errors import UserError
from syn_ray.core.storage import Storage
from syn_ray.datasets.pair_index import pairs_beside
from syn_ray.datasets.pairs import PairSet, open_pairs
from syn_ray.datasets.real import balanced_order, open_images
from syn_ray.datasets.vocabulary import Classes, ClassInfo, class_infos, class_names, open_clip_lists
from syn_ray.prompts.cache import WrittenSet, read_written
from syn_ray.prompts.config import (
    CaptionPrompts,
    FittingPrompts,
    ModelCaptions,
    PairCaptions,
    PromptConfig,
    TextFile,
    Word2Sen,
    WordNetPrompts,
)
from syn_ray.prompts.prompt_set import Prompts, PromptSet
from syn_ray.prompts.texts import read_texts
from syn_ray.prompts.tokens import TokenCounter, own_counter

Template = Callable[[str], str]


def open_prompts(
    config: PromptConfig, classes: Classes | None, study_seed: int, written: Storage | None = None
) -> Prompts:
    """What a source's generator is asked for: a prompt set, or captions read where they are asked for.

    Arguments and errors are those of `make_prompt_set`; `pairs/` lies beside `written`.
    """
    if isinstance(config, PairCaptions):
        return _PairPrompts(_open_pairs(config, study_seed, written))
    return make_prompt_set(config, classes, study_seed, written)


def make_prompt_set(
    config: PromptConfig, classes: Classes | None, study_seed: int, written: Storage | None = None
) -> PromptSet:
    """Builds a prompt set, all of it in memory.

    Args:
        config: which one.
        classes: the vocabulary; None where samples have no label.
        study_seed: orders the captions. It is also the order of a real source of the same images, so that synthetic
            sample `i` is asked for by the caption of real sample `i`.
        written: the `prompts/` directory of the storage, for sets that a model writes.

    Raises:
        UserError: images without captions, a class of which too little is known, a file, a model's texts or an index of
            pairs that is not there.
    """
    if classes is None or isinstance(config, TextFile | PairCaptions):
        return _one_a_sample(config, classes, study_seed, written)
    if isinstance(config, FittingPrompts):
        whole = make_prompt_set(config.prompts, classes, study_seed, written)
        return fitting(whole, own_counter(config.model_id, config.revision), class_names(classes))
    if isinstance(config, ModelCaptions | Word2Sen):
        return read_written(WrittenSet(prompts=config, classes=classes, study_seed=study_seed), written)
    if isinstance(config, CaptionPrompts):
        return PromptSet(_captions(config, classes, study_seed))
    if isinstance(config, WordNetPrompts):
        rule = _description if config.kind == "descriptions" else _hypernyms
        return PromptSet(tuple((rule(label, info),) for label, info in enumerate(class_infos(classes))))
    templates = _templates(config.kind)
    names = class_names(classes)
    return PromptSet(tuple(tuple(dict.fromkeys(template(name) for template in templates)) for name in names))


class _PairPrompts:
    """The captions of pairs, a few thousand in memory at a time."""

    def __init__(self, pairs: PairSet) -> None:
        self._pairs = pairs

    def label(self, sample_index: int) -> None:  # noqa: ARG002 - pairs have no classes
        return None

    def prompt(self, sample_index: int) -> str:
        return self._pairs.caption(sample_index)


def _one_a_sample(config: PromptConfig, classes: Classes | None, study_seed: int, written: Storage | None) -> PromptSet:
    if isinstance(config, TextFile):
        return read_texts(config, None if classes is None else class_names(classes))
    if isinstance(config, PairCaptions):
        pairs = _open_pairs(config, study_seed, written)
        return PromptSet((tuple(pairs.caption(index) for index in range(pairs.rows)),), labelled=False)
    raise UserError(f"prompts '{config.kind}' are about classes, and there are none; name classes")


def _open_pairs(config: PairCaptions, study_seed: int, written: Storage | None) -> PairSet:
    return open_pairs(config.pairs, study_seed, None if written is None else pairs_beside(written))


def fitting(prompts: PromptSet, counter: TokenCounter, names: Sequence[str]) -> PromptSet:
    """The same prompts, each one that is too long replaced by the next of its class that is not.

    Raises:
        UserError: a class has no prompt that fits (after it, where more are still to be written).
    """
    too_long = counter.excess([prompt for choices in prompts.prompts for prompt in choices])
    replaced = []
    for label, choices in enumerate(prompts.prompts):
        whole = prompts.periods is None or prompts.periods[label] == len(choices)
        around = choices + choices if whole else choices
        following: list[str | None] = [None] * (len(around) + 1)
        for place in reversed(range(len(around))):
            following[place] = following[place + 1] if around[place] in too_long else around[place]
        chosen = following[: len(choices)]
        if None in chosen:
            raise UserError(
                f"long_prompts: class '{names[label]}' has no prompt of at most {counter.limit} tokens to take the "
                f"place of '{choices[chosen.index(None)]}'; set it to truncate, or take another prompt set"
            )
        replaced.append(tuple(prompt for prompt in chosen if prompt is not None))
    return PromptSet(tuple(replaced), prompts.periods)


def _description(label: int, info: ClassInfo) -> str:
    if info.gloss is None:
        raise _unknown("descriptions", label, info, "description")
    return f"{info.name}, {info.gloss}"


def _hypernyms(label: int, info: ClassInfo) -> str:
    if info.relatives is None:
        raise _unknown("hypernyms", label, info, "hypernyms")
    distinct: dict[str, str] = {}
    for word in (info.name, *info.relatives):
        distinct.setdefault(word.casefold(), word)
    return ", ".join(distinct.values())


def _unknown(kind: str, label: int, info: ClassInfo, key: str) -> UserError:
    return UserError(f"prompts '{kind}': class {label} ('{info.name}') has no {key}; give it '{key}' or a 'wnid'")


def _captions(config: CaptionPrompts, classes: Classes, study_seed: int) -> tuple[tuple[str, ...], ...]:
    names = class_names(classes)
    images = open_images(config.images, classes)
    captions = images.captions()
    order = balanced_order(images.labels, len(names), study_seed).reshape(-1, len(names))
    if any(captions[position] is None for position in order[0]):
        raise UserError(
            f"prompts 'captions': the images of '{config.images.name}' have no captions; use another prompt set"
        )
    return tuple(
        tuple(f"{name}, {captions[position]}" for position in order[:, label]) for label, name in enumerate(names)
    )


def _templates(kind: str) -> Sequence[Template]:
    if kind == "classnames":
        return (str,)
    lists = open_clip_lists()
    chosen: Sequence[Template]
    chosen = lists.SIMPLE_IMAGENET_TEMPLATES if kind == "clip_templates_7" else lists.OPENAI_IMAGENET_TEMPLATES
    return chosen
