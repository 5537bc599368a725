"""What many tests share: a Ray for the whole session, and a study small enough to run in seconds."""

import os
import secrets

# Ray reads these when it is imported. A token of our own: none is written to the home directory.
os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "OMP_NUM_THREADS": "1"})

import pytest

from syn_ray.study.environment import set_environment

set_environment()

TINY = (
    "dataset_sizes=[16,32,64]",
    "fit_window=[16,64]",
    "reference_size=64",
    "score.images_per_class=4",
    "generators.sd.num_inference_steps=2",
    "curves.1.guidance_scale=[1,4]",
    "train.steps.base_steps=40",
    "train.steps.steps_per_doubling=5",
    "train.steps.reference_size=16",
    "evaluation_sets={v2: {kind: embedded, name: v2}, adversarial: {kind: embedded, name: adversarial}}",
)
"""Changes that make quickstart a study of seconds: three curves, nine trainings, two evaluation sets."""


@pytest.fixture(scope="session")
def ray_cluster():
    """A local Ray with more logical CPUs than the machine has."""
    from syn_ray.core.resources import Resources
    from syn_ray.study.cluster import connected

    with connected(Resources(num_cpus=4)):
        yield
