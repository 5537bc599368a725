"""The Ray a study runs on: the cluster it finds itself on, or one started for it on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator

import ray

from syn_ray.core.resources import Resources
from syn_ray.study.environment import ENVIRONMENT

QUIET = ("ray.data", "ray.train", "ray.tune")
OBJECT_STORE_BYTES = 512 * 2**20
"""Of a Ray started here: the largest built-in study holds 20 MB of encoded images at a time."""


@contextlib.contextmanager
def connected(resources: Resources) -> Iterator[None]:
    """Connects to Ray and leaves it as it was found.

    On a cluster (`RAY_ADDRESS`, as in a submitted job, or a connection that exists) nothing is started. Otherwise a Ray
    starts on this machine for this process, with a token that nobody else knows.
    """
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, runtime_env={"env_vars": ENVIRONMENT})
    else:
        _start_locally(resources)
    try:
        yield
    finally:
        ray.shutdown()


def _start_locally(resources: Resources) -> None:
    # A new local Ray switches token authentication on where RAY_AUTH_MODE is unset. With a token at hand it writes none
    # to the home directory, where later clusters would find it.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(
        address="local",
        num_cpus=resources.num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )
