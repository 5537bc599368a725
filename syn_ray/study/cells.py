"""From the curves of a study file to the cells of its grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from syn_ray.core.config import validate
from syn_ray.core.errors import nearest
from syn_ray.datasets.config import FolderImages, RealImages
from syn_ray.datasets.vocabulary import Classes, ClassInfo, class_infos, class_names
from syn_ray.generate.config import MixedSource, PairSource, RealSource, SyntheticSource
from syn_ray.generate.families import GeneratorConfig
from syn_ray.prompts.config import PROMPT_SETS, FittingPrompts, PairCaptions, PromptConfig, plain_prompts
from syn_ray.study.curves import Curve, MixedCurves, RealCurve, SyntheticCurves

if TYPE_CHECKING:
    from syn_ray.study.config import StudyConfig

PAIR_CAPTIONS = str(PairCaptions.model_fields["kind"].default)


def cells(study: StudyConfig) -> list[Curve]:
    """Every curve, by name and with its source.

    Raises:
        ValueError: a curve names a generator or a prompt set that is not there, or is of another objective.
    """
    return [curve for entry in study.curves for curve in _expand(study, entry)]


def bare_classes(classes: Classes, images: RealImages) -> Classes:
    """For real images: of what is known of classes they change with what their directories are named by alone."""
    if isinstance(classes, str):
        return classes
    if isinstance(images, FolderImages):
        bare = [ClassInfo(name=info.name, wnid=info.wnid) for info in class_infos(classes)]
        return tuple(info if info.wnid else info.name for info in bare)
    return tuple(class_names(classes))


def _expand(study: StudyConfig, entry: RealCurve | SyntheticCurves | MixedCurves) -> Iterator[Curve]:
    sizes = entry.dataset_sizes or study.dataset_sizes
    if isinstance(entry, RealCurve):
        yield Curve(name="real", source=_real(study), dataset_sizes=sizes)
        return
    guidance = entry.guidance_scale or entry.native_guidance or ()
    for generator, prompts, value in itertools.product(entry.generator, _prompt_sets(study, entry), guidance):
        drawn = _synthetic(study, str(generator), str(prompts), _guidance_scale(study, entry, str(generator), value))
        about = {"generator": str(generator), "prompts": str(prompts), "dataset_sizes": sizes}
        words = [str(generator), *([] if study.trains_clip else [str(prompts)]), f"g{drawn.guidance_scale:g}"]
        name = "-".join(words)
        if isinstance(entry, MixedCurves):
            probability = entry.synthetic_probability
            mixed = MixedSource(real=_pairs(study), synthetic=drawn, synthetic_probability=probability)
            usual = probability == MixedCurves.model_fields["synthetic_probability"].default
            share = "" if usual else f"-p{probability:g}"
            yield Curve(name=f"mixed-{name}{share}", source=mixed, **about)
        else:
            yield Curve(name=name, source=drawn, **about)


def _real(study: StudyConfig) -> RealSource | PairSource:
    if study.trains_clip:
        return _pairs(study)
    assert study.real is not None
    return RealSource(
        images=study.real, classes=bare_classes(study.classes, study.real), study_seed=study.seed, image=study.image
    )


def _pairs(study: StudyConfig) -> PairSource:
    if study.pairs is None:
        raise ValueError("curves: source 'mixed' is for CLIP (train: {objective: clip}); a classifier takes one source")
    return PairSource(pairs=study.pairs, study_seed=study.seed, image=study.image)


def _prompt_sets(study: StudyConfig, entry: SyntheticCurves | MixedCurves) -> tuple[Any, ...]:
    if study.trains_clip:
        if entry.prompts not in (None, (PAIR_CAPTIONS,)):
            raise ValueError("curves: CLIP's prompts are the captions of its pairs; leave prompts out")
        return (PAIR_CAPTIONS,)
    if entry.prompts is None:
        raise ValueError("curves: name the prompts of generated images")
    return entry.prompts


def _guidance_scale(study: StudyConfig, entry: SyntheticCurves | MixedCurves, generator: str, value: Any) -> float:
    if generator not in study.generators:
        raise ValueError(f"curves: there is no generator '{generator}'{nearest(generator, study.generators)}")
    name = "guidance_scale" if entry.native_guidance is None else "native_guidance"
    if isinstance(value, bool) or not isinstance(value, int | float):
        problem = f"curves: {name} '{value}' is not a number"
        raise ValueError(problem)  # noqa: TRY004 - pydantic reports ValueErrors
    return float(value) if entry.native_guidance is None else study.generators[generator].guidance_scale(value)


def _synthetic(study: StudyConfig, generator: str, prompts: str, guidance_scale: float) -> SyntheticSource:
    values = {
        "generator": study.generators[generator],
        "guidance_scale": guidance_scale,
        "prompts": _prompts(study, prompts, study.generators[generator]),
        "classes": None if study.trains_clip else study.classes,
        "study_seed": study.seed,
        "image": study.image,
    }
    return validate(SyntheticSource, values, "curves")


def _prompts(study: StudyConfig, name: str, generator: GeneratorConfig) -> PromptConfig:
    if study.trains_clip:
        assert study.pairs is not None
        return PairCaptions(pairs=study.pairs)
    known = {*PROMPT_SETS, *study.prompt_sets}
    if name not in known:
        hint = nearest(name, known)
        hint = "; give its file: prompt_sets: {texts: {kind: texts, path: FILE}}" if name == "texts" else hint
        raise ValueError(f"curves: there is no prompt set '{name}'{hint}")
    assert study.real is not None
    prompts = study.prompt_sets.get(name) or plain_prompts(name, study.real)
    if study.long_prompts != "drop":
        return prompts
    return FittingPrompts(prompts=prompts, model_id=generator.model_id, revision=generator.revision)
