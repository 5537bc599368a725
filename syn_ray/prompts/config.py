"""Which prompt set is meant."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from syn_ray.core.config import Config
from syn_ray.datasets.config import RealImages


class TemplatePrompts(Config):
    """The class name, bare or in CLIP's zero-shot templates (paper section 3.1)."""

    kind: Literal["classnames", "clip_templates_7", "clip_templates_80"]


class CaptionPrompts(Config):
    """Class name, comma, caption of a real training image of the class (paper section 3.1, IN-Captions)."""

    kind: Literal["captions"] = "captions"
    images: RealImages
    """The captioned training images."""


PromptConfig = Annotated[TemplatePrompts | CaptionPrompts, pydantic.Field(discriminator="kind")]
PROMPT_SETS = ("classnames", "clip_templates_7", "clip_templates_80", "captions")
