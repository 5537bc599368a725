"""Tiny models of every family: the true architectures, reduced, with random weights, saved in diffusers' format."""

import pytest

NAMES = {"stable_diffusion": "sd-1.5", "imagen": "deepfloyd-if-m", "muse": "amused-256"}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Directory of the tiny model of a family, made when it is first asked for."""
    import torch

    from syn_ray.generate.architectures import write_random

    made = {}

    def directory(family):
        if family not in made:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                made[family] = write_random(NAMES[family], tmp_path_factory.mktemp(family), reduced=True)
        return made[family]

    return directory


@pytest.fixture(scope="session")
def tiny_config(tiny):
    """A quick configuration of a family's tiny model."""
    import pydantic

    from syn_ray.generate.families import GeneratorConfig

    def config(family, **changes):
        values = {"model_id": str(tiny(family)), "num_inference_steps": 2}
        if family == "imagen":
            values |= {"super_resolution_steps": 2, "super_resolution_guidance_scale": 2.0}
        return pydantic.TypeAdapter(GeneratorConfig).validate_python({"family": family} | values | changes)

    return config
