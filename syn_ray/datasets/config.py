"""Which real images are meant."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from syn_ray import embedded
from syn_ray.core.config import Config

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


class FolderImages(Config):
    """`path/<class>/<image>`: one directory a class, in sorted order (numbers by value) the labels 0, 1, 2, ..."""

    kind: Literal["folder"] = "folder"
    path: str
    name: str
    """What the set is called in results, and part of its identity: rename it when its images change."""


RealImages = Annotated[EmbeddedImages | FolderImages, pydantic.Field(discriminator="kind")]
