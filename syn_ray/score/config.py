"""Which classifier looks at how many images."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic

from syn_ray import embedded
from syn_ray.core.config import PAPER_NOT_GIVEN, Config


class ScoreConfig(Config):
    """Scores use the first `images_per_class` samples of each class, which are the first samples of the source."""

    classifier: Annotated[str, pydantic.Field(json_schema_extra=dict(PAPER_NOT_GIVEN))] = (
        "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"
    )
    """A pretrained timm model, or `embedded:classifier`. The paper's is a timm ViT-B of 86.2%."""
    revision: str = ""
    """Filled in for an embedded classifier."""
    images_per_class: pydantic.PositiveInt = 50

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill_revision(cls, data: Any) -> Any:
        if isinstance(data, dict) and str(data.get("classifier", "")).startswith(embedded.PREFIX):
            if data["classifier"] != f"{embedded.PREFIX}classifier":
                raise ValueError(
                    f"there is no embedded classifier '{data['classifier']}'; did you mean 'embedded:classifier'?"
                )
            return data | {"revision": embedded.asset_revision("classifier")}
        return data
