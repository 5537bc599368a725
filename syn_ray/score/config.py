"""Which classifier looks at how many images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic

from syn_ray import embedded
from syn_ray.core.config import PAPER_NOT_GIVEN, Config

LOCAL = "local-dir:"
Output = int | str


def _read_labels(value: Any) -> Any:
    """A mapping as pairs, each with a list of outputs."""
    pairs = value.items() if isinstance(value, dict) else value
    if not isinstance(value, dict | list | tuple):
        problem = "give a mapping: each class's name, and the classifier's output or list of outputs for it"
        raise ValueError(problem)  # noqa: TRY004 - pydantic reports ValueErrors
    return tuple((str(name), tuple(given) if isinstance(given, list | tuple) else (given,)) for name, given in pairs)


Labels = Annotated[tuple[tuple[str, tuple[Output, ...]], ...], pydantic.BeforeValidator(_read_labels)]


class ScoreConfig(Config):
    """Scores use the first `images_per_class` samples of each class, which are the first samples of the source.

    A classifier may know more classes than the study: it answers with the best of those that the study has.
    """

    classifier: Annotated[str, pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))] = (
        "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"
    )
    """What timm loads: one of its pretrained models, `hf-hub:OWNER/NAME` or `local-dir:PATH`; or `embedded:classifier`.
    The paper's is a timm ViT-B of 86.2%."""
    revision: str = ""
    """Filled in for an embedded classifier and one in a directory: a hash of what it holds."""
    labels: Labels = ()
    """`{class: output}`: a name or wnid, and the output by number, name or wnid, or a list where several stand for it.
    Needed where neither names nor wnids nor the number of outputs say which output is which class's."""
    images_per_class: Annotated[int, pydantic.Field(ge=2)] = 50
    """At least 2: diversity is a spread."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_revision(cls, data: Any) -> Any:
        classifier = str(data.get("classifier", "")) if isinstance(data, dict) else ""
        if classifier.startswith(embedded.PREFIX):
            if classifier != f"{embedded.PREFIX}classifier":
                raise ValueError(f"there is no embedded classifier '{classifier}'; did you mean 'embedded:classifier'?")
            return data | {"revision": embedded.asset_revision("classifier")}
        if classifier.startswith(LOCAL) and not data.get("revision"):
            folder = Path(classifier.removeprefix(LOCAL))
            if not (folder / "config.json").is_file():
                raise ValueError(f"'{folder}' holds no config.json; give a directory that timm has saved a model in")
            return data | {"revision": embedded.compute_revision(folder)}
        return data

    @property
    def identity(self) -> dict[str, Any]:
        """What scores depend on: of a classifier in a directory what it holds, not where that lies."""
        value = super().identity
        if not self.labels:
            del value["labels"]  # came after the first results
        return value | ({"classifier": LOCAL} if self.classifier.startswith(LOCAL) else {})
