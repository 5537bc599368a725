"""Which real images are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from syn_ray import embedded
from syn_ray.core.config import PLACE, Config, Name

EMBEDDED_SETS = ("pool", "tuning", "val", "v2", "sketch", "rendition", "adversarial")
"""Fashion-MNIST as shipped: training pool, recipe-tuning part, and the five evaluation sets."""


class EmbeddedImages(Config):
    """Images that come with the package; nothing is fetched."""

    kind: Literal["embedded"] = "embedded"
    name: Literal["pool", "tuning", "val", "v2", "sketch", "rendition", "adversarial"]
    revision: str = ""
    """Filled in: the content hash of the shipped images, so that other images are another source."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_revision(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("name") not in EMBEDDED_SETS:
            return data
        name = data["name"]
        revision = embedded.asset_revision(f"images/{name if name in embedded.STORED_SETS else 'val'}")
        if name == "adversarial":
            revision += embedded.asset_revision("classifier")  # which images it gets wrong
        return data | {"revision": revision}


def _as_pairs(labels: Any) -> Any:
    """A mapping as pairs: a configuration is also a key of caches."""
    return tuple((str(name), value) for name, value in labels.items()) if isinstance(labels, dict) else labels


class FolderImages(Config):
    """`path/<class>/<image>`: one directory a class, named by the class, its wnid or its label."""

    kind: Literal["folder"] = "folder"
    path: Annotated[str, pydantic.Field(json_schema_extra=dict(PLACE))]
    name: Name
    """What the set is called in results, and its identity: rename it when its images change."""
    labels: Annotated[tuple[tuple[str, str | int | None], ...], pydantic.BeforeValidator(_as_pairs)] = ()
    """For directories named otherwise, `{directory: class}`: its name, wnid or label; null leaves the directory out."""
    subset: bool = False
    """An evaluation set has images of some of the classes only, as ImageNet-A; else a class without is an error."""


RealImages = Annotated[EmbeddedImages | FolderImages, pydantic.Field(discriminator="kind")]


def is_at_hand(images: RealImages) -> bool:
    """Whether real images are on this machine: a study is planned and reported without them."""
    return not isinstance(images, FolderImages) or Path(images.path).is_dir()
