"""A study file: which curves, at which dataset sizes, judged on what. Read, checked, and expanded to explicit cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic

from syn_ray.core.config import PAPER_NOT_GIVEN, Config, Name, validate
from syn_ray.core.errors import nearest
from syn_ray.datasets.config import FolderImages, RealImages
from syn_ray.datasets.vocabulary import Classes, ClassInfo, class_infos, class_names
from syn_ray.generate.config import EvaluationSource, ImageFormat, RealSource, SyntheticSource
from syn_ray.generate.families import GeneratorConfig
from syn_ray.prompts.config import (
    PROMPT_SETS,
    FittingPrompts,
    ModelCaptions,
    NamedPromptConfig,
    PromptConfig,
    plain_prompts,
)
from syn_ray.report.inputs import IMAGES
from syn_ray.score.config import ScoreConfig
from syn_ray.train.config import ClassifyConfig

CAPTIONS = ("captions", "model_captions")
LEAST_SIZES = 3
"""Dataset sizes that a law needs inside its window."""


def _one_or_many(value: Any) -> Any:
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        raise ValueError("the list is empty, which makes no curve; give at least one value")
    return values


OneOrMany = Annotated[tuple[Any, ...], pydantic.BeforeValidator(_one_or_many)]


def _rising(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if not sizes or list(sizes) != sorted(set(sizes)):
        raise ValueError("dataset sizes must rise, each given once")
    return sizes


Sizes = Annotated[tuple[pydantic.PositiveInt, ...], pydantic.AfterValidator(_rising)]


class RealCurve(Config):
    """Training on real images."""

    source: Literal["real"] = "real"
    dataset_sizes: Sizes | None = None
    """This curve's own, in place of the study's."""


class SyntheticCurves(Config):
    """Training on generated images; a list makes one curve of each of its values, several lists one of each pair."""

    source: Literal["synthetic"] = "synthetic"
    generator: OneOrMany
    prompts: OneOrMany
    guidance_scale: OneOrMany | None = None
    native_guidance: OneOrMany | None = None
    """In place of guidance_scale: the same in the model's own convention, which for Muse is guidance_scale − 1."""
    dataset_sizes: Sizes | None = None
    """These curves' own, in place of the study's."""

    @pydantic.model_validator(mode="after")
    def _one_guidance(self) -> SyntheticCurves:
        if (self.guidance_scale is None) == (self.native_guidance is None):
            what = "neither" if self.guidance_scale is None else "both"
            raise ValueError(f"give guidance_scale or native_guidance, one of the two; {what} is there")
        return self


Curves = Annotated[RealCurve | SyntheticCurves, pydantic.Field(discriminator="source")]


class Curve(Config):
    """One cell of the grid: a source trained on at each of its dataset sizes."""

    name: str
    source: Annotated[RealSource | SyntheticSource, pydantic.Field(discriminator="kind")]
    generator: str | None = None
    """The study's name for the generator."""
    prompts: str | None = None
    """The study's name for the prompt set."""
    dataset_sizes: Sizes


class StudyConfig(Config):
    """What a study computes."""

    name: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    question: str
    seed: int = 0
    """Of the samples' noise and of the real images' order."""
    classes: Classes
    image: ImageFormat = ImageFormat()
    real: RealImages
    """The real training images; their captions, or a model's captions of them, make the prompt set `captions`."""
    evaluation_sets: dict[Name, RealImages]
    """By the name they have in results; the first is the main one."""
    generators: dict[Name, GeneratorConfig] = pydantic.Field(default_factory=dict)
    prompt_sets: dict[Name, NamedPromptConfig] = pydantic.Field(default_factory=dict)
    """Sets with settings of their own, by the name that curves call them; it may be a plain set's name."""
    long_prompts: Literal["truncate", "drop", "stop"] = pydantic.Field(
        "truncate", json_schema_extra=dict(PAPER_NOT_GIVEN)
    )
    """Prompts that the text encoder does not take whole: cut off, replaced by the class's next, or not accepted."""
    curves: tuple[Curves, ...]
    dataset_sizes: Sizes
    seeds: tuple[pydantic.NonNegativeInt, ...] = (0,)
    """Training seeds: every point is trained once with each."""
    reference_size: pydantic.PositiveInt
    """D at which performance is read off; the paper's is 1.3M."""
    fit_window: tuple[pydantic.PositiveInt, pydantic.PositiveInt]
    score: ScoreConfig | None = ScoreConfig()
    """null: images are not scored."""
    train: ClassifyConfig = ClassifyConfig()
    notes: tuple[str, ...] = ()
    """Said in the report: how the recipe was found, what stands in for what."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _caption_real_images(cls, data: Any) -> Any:
        """Sets about captions are about the real images, where they do not say others."""
        if not isinstance(data, dict) or not isinstance(data.get("prompt_sets"), dict) or "real" not in data:
            return data
        sets = {
            name: {"images": data["real"]} | given
            if isinstance(given, dict) and given.get("kind") in CAPTIONS
            else given
            for name, given in data["prompt_sets"].items()
        }
        return data | {"prompt_sets": sets}

    @pydantic.model_validator(mode="after")
    def _check(self) -> StudyConfig:
        class_names(self.classes)
        if not self.evaluation_sets:
            raise ValueError("evaluation_sets: name at least one")
        if IMAGES in self.evaluation_sets:
            raise ValueError(f"evaluation_sets: '{IMAGES}' is what image scores are called in results; rename it")
        if isinstance(self.real, FolderImages) and self.real.subset:
            raise ValueError("real: subset is for evaluation sets; training images are of every class")
        _check_places("evaluation_sets", list(self.evaluation_sets.values()))
        captioned = [prompts.images for prompts in self.prompt_sets.values() if isinstance(prompts, ModelCaptions)]
        _check_places("real, prompt_sets", [self.real, *captioned])
        if not self.curves:
            raise ValueError("curves: name at least one")
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise ValueError("seeds: give each once")
        if self.fit_window[0] >= self.fit_window[1]:
            raise ValueError(f"fit_window {list(self.fit_window)} is empty; give [smallest D, largest D]")
        curves = self.cells()
        for sizes in (self.dataset_sizes, *(curve.dataset_sizes for curve in curves)):
            inside = [size for size in sizes if self.fit_window[0] <= size <= self.fit_window[1]]
            # A curve of fewer sizes has no law, and says so.
            if len(inside) < LEAST_SIZES and (len(sizes) >= LEAST_SIZES or sizes == self.dataset_sizes):
                raise ValueError(
                    f"fit_window {list(self.fit_window)} holds {len(inside)} of the dataset sizes; "
                    f"a law needs {LEAST_SIZES}"
                )
        names = [curve.name for curve in curves]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"curves: '{twice[0]}' is there twice; give each curve once")
        return self

    def cells(self) -> list[Curve]:
        """Every curve, by name and with its source."""
        return [curve for entry in self.curves for curve in self._expand(entry)]

    def evaluation_sources(self) -> dict[str, EvaluationSource]:
        """The evaluation sets as sources."""
        return {
            name: EvaluationSource(images=images, classes=self._bare_classes(images), image=self.image)
            for name, images in self.evaluation_sets.items()
        }

    def _expand(self, entry: RealCurve | SyntheticCurves) -> list[Curve]:
        if isinstance(entry, RealCurve):
            classes = self._bare_classes(self.real)
            source = RealSource(images=self.real, classes=classes, study_seed=self.seed, image=self.image)
            return [Curve(name="real", source=source, dataset_sizes=entry.dataset_sizes or self.dataset_sizes)]
        sizes = entry.dataset_sizes or self.dataset_sizes
        return [
            self._synthetic(str(generator), str(prompts), self._guidance_scale(entry, str(generator), value), sizes)
            for generator, prompts, value in itertools.product(
                entry.generator, entry.prompts, entry.guidance_scale or entry.native_guidance or ()
            )
        ]

    def _guidance_scale(self, entry: SyntheticCurves, generator: str, value: Any) -> float:
        if generator not in self.generators:
            raise ValueError(f"curves: there is no generator '{generator}'{nearest(generator, self.generators)}")
        name = "guidance_scale" if entry.native_guidance is None else "native_guidance"
        if isinstance(value, bool) or not isinstance(value, int | float):
            problem = f"curves: {name} '{value}' is not a number"
            raise ValueError(problem)  # noqa: TRY004 - pydantic reports ValueErrors
        return float(value) if entry.native_guidance is None else self.generators[generator].guidance_scale(value)

    def _synthetic(self, generator: str, prompts: str, guidance_scale: float, sizes: tuple[int, ...]) -> Curve:
        if prompts not in {*PROMPT_SETS, *self.prompt_sets}:
            hint = nearest(prompts, {*PROMPT_SETS, *self.prompt_sets})
            hint = "; give its file: prompt_sets: {texts: {kind: texts, path: FILE}}" if prompts == "texts" else hint
            raise ValueError(f"curves: there is no prompt set '{prompts}'{hint}")
        values = {
            "generator": self.generators[generator],
            "guidance_scale": guidance_scale,
            "prompts": self._prompts(prompts, self.generators[generator]),
            "classes": self.classes,
            "study_seed": self.seed,
            "image": self.image,
        }
        source = validate(SyntheticSource, values, "curves")
        name = f"{generator}-{prompts}-g{guidance_scale:g}"
        return Curve(name=name, source=source, generator=generator, prompts=prompts, dataset_sizes=sizes)

    def _bare_classes(self, images: RealImages) -> Classes:
        """For real images: of what is known of classes they change with what their directories are named by alone."""
        if isinstance(self.classes, str):
            return self.classes
        if isinstance(images, FolderImages):
            bare = [ClassInfo(name=info.name, wnid=info.wnid) for info in class_infos(self.classes)]
            return tuple(info if info.wnid else info.name for info in bare)
        return tuple(class_names(self.classes))

    def _prompts(self, name: str, generator: GeneratorConfig) -> PromptConfig:
        prompts = self.prompt_sets.get(name) or plain_prompts(name, self.real)
        if self.long_prompts != "drop":
            return prompts
        return FittingPrompts(prompts=prompts, model_id=generator.model_id, revision=generator.revision)


def _check_places(where: str, sets: Sequence[RealImages]) -> None:
    """One name, one folder: what is made of images is called by their name, wherever they lie."""
    paths: dict[str, str] = {}
    for images in sets:
        if isinstance(images, FolderImages) and paths.setdefault(images.name, images.path) != images.path:
            raise ValueError(
                f"{where}: '{images.name}' names the images in '{paths[images.name]}' and those in '{images.path}'; "
                "give each a name of its own"
            )
