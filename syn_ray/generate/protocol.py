"""What every generator offers; it knows nothing of Ray, shards or studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from syn_ray.core.resources import GenerateResources
from syn_ray.generate.families import GeneratorConfig, ImagenConfig, MuseConfig

Pixels = npt.NDArray[np.uint8]
ALL_DEFAULTS = GenerateResources()


class ImageGenerator(Protocol):
    """A text-to-image model, its weights loaded once."""

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encodes prompts that `generate` will be asked for, all at once: a large text encoder need not stay.

        Images do not depend on it: what was not prepared is encoded when it is drawn.
        """

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], guidance_scale: float) -> Pixels:
        """One image for each prompt, its noise drawn from the seed beside it.

        Returns:
            uint8 array [batch, height, width, 3]; an image with values that are not finite is all black.
        """

    def provenance(self) -> dict[str, Any]:
        """Family, model, licence, watermark, sampler, precision and versions, as they are saved with every shard."""


def to_pixels(images: npt.NDArray[np.floating[Any]]) -> Pixels:
    """Images of numbers from 0 to 1, [batch, height, width, 3], in grey levels; black where one is not finite."""
    finite = np.isfinite(images).all(axis=(1, 2, 3), keepdims=True)
    return (np.where(finite, images, 0.0) * 255).round().astype(np.uint8)


def load_generator(config: GeneratorConfig, resources: GenerateResources = ALL_DEFAULTS) -> ImageGenerator:
    """Loads a generator's weights onto the GPU this process was given, else the CPU.

    Raises:
        UserError: the model is not there, or is of another family.
    """
    if isinstance(config, ImagenConfig):
        from syn_ray.generate.imagen import ImagenGenerator

        return ImagenGenerator(config, resources)
    if isinstance(config, MuseConfig):
        from syn_ray.generate.muse import MuseGenerator

        return MuseGenerator(config, resources)
    from syn_ray.generate.stable_diffusion import StableDiffusionGenerator

    return StableDiffusionGenerator(config, resources)
