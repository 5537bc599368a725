"""The curves of a study file, and what each of them comes to: a cell of the grid."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from syn_ray.core.config import PAPER_NOT_GIVEN, Config
from syn_ray.generate.config import (
    MixedSource,
    PairSource,
    RealSource,
    SyntheticSource,
    parts,
)


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
    """Training on real images; for CLIP on real pairs."""

    source: Literal["real"] = "real"
    dataset_sizes: Sizes | None = None
    """This curve's own, in place of the study's."""


class _Generated(Config):
    """Curves of generated images; a list makes one curve of each of its values, several lists one of each pair."""

    generator: OneOrMany
    prompts: OneOrMany | None = None
    """Prompt sets. Of CLIP none are given: the captions of the pairs are the prompts."""
    guidance_scale: OneOrMany | None = None
    native_guidance: OneOrMany | None = None
    """In place of guidance_scale: the same in the model's own convention, which for Muse is guidance_scale − 1."""
    dataset_sizes: Sizes | None = None
    """These curves' own, in place of the study's."""

    @pydantic.model_validator(mode="after")
    def _one_guidance(self) -> _Generated:
        if (self.guidance_scale is None) == (self.native_guidance is None):
            what = "neither" if self.guidance_scale is None else "both"
            raise ValueError(f"give guidance_scale or native_guidance, one of the two; {what} is there")
        return self


class SyntheticCurves(_Generated):
    """Training on generated images."""

    source: Literal["synthetic"] = "synthetic"


class MixedCurves(_Generated):
    """Training CLIP on pairs whose caption has a real image and a generated one, of which a visit shows one."""

    source: Literal["mixed"] = "mixed"
    synthetic_probability: Annotated[float, pydantic.Field(gt=0, lt=1, json_schema_extra=dict(PAPER_NOT_GIVEN))] = 0.5


Curves = Annotated[RealCurve | SyntheticCurves | MixedCurves, pydantic.Field(discriminator="source")]

OF_RESULTS = {"pairs": "real"}
"""What results call a source, where that is not its kind."""


class Curve(Config):
    """One cell of the grid: a source trained on at each of its dataset sizes."""

    name: str
    source: Annotated[RealSource | SyntheticSource | PairSource | MixedSource, pydantic.Field(discriminator="kind")]
    generator: str | None = None
    """The study's name for the generator."""
    prompts: str | None = None
    """The study's name for the prompt set."""
    dataset_sizes: Sizes

    @property
    def kind(self) -> str:
        """`real`, `synthetic` or `mixed`."""
        return OF_RESULTS.get(self.source.kind, self.source.kind)

    @property
    def parts(self) -> tuple[SyntheticSource | RealSource | PairSource, ...]:
        """The sources whose images it needs."""
        return parts(self.source)

    @property
    def drawn(self) -> SyntheticSource | None:
        """The generated images among them."""
        return next((part for part in self.parts if isinstance(part, SyntheticSource)), None)
