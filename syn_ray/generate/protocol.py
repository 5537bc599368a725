"""What every generator offers; it knows nothing of Ray, shards or studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from syn_ray.generate.config import GeneratorConfig

Pixels = npt.NDArray[np.uint8]


class ImageGenerator(Protocol):
    """A text-to-image model, its weights loaded once."""

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], guidance_scale: float) -> Pixels:
        """One image for each prompt, its noise drawn from the seed beside it.

        Returns:
            uint8 array [batch, height, width, 3]; an image with values that are not finite is all black.
        """

    def provenance(self) -> dict[str, Any]:
        """Model, sampler and library versions, as they are saved with every shard."""


def load_generator(config: GeneratorConfig) -> ImageGenerator:
    """Loads a generator's weights onto the GPU this process was given, else the CPU.

    Raises:
        UserError: the model is not there.
    """
    from syn_ray.generate.stable_diffusion import StableDiffusionGenerator

    return StableDiffusionGenerator(config)
