"""The Ray a study runs on: the cluster it finds itself on, or one started for it on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from syn_ray.core.errors import SynRayError
from syn_ray.core.resources import Resources
from syn_ray.study.environment import ENVIRONMENT

QUIET = ("ray.data", "ray.train", "ray.tune")
OBJECT_STORE_BYTES = 512 * 2**20
"""Of a Ray started here: the largest built-in study holds 20 MB of encoded images at a time."""

KNOCK_SECONDS = 20.0
TOKEN = secrets.token_hex(32)
"""Of every Ray that this process starts."""


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
    with contextlib.ExitStack() as leaving:
        if os.environ.get("RAY_ADDRESS"):
            _join(os.environ["RAY_ADDRESS"])
        else:
            leaving.enter_context(_own_token())
            _start_locally(resources)
        leaving.callback(ray.shutdown)
        yield


def _join(address: str) -> None:
    """Connects to a cluster. Ray itself goes on knocking for minutes where nobody answers, so that is asked first."""
    try:
        _knock(address)
        ray.init(log_to_driver=False, runtime_env={"env_vars": ENVIRONMENT})
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise SynRayError(
            f"RAY_ADDRESS is '{address}' and no cluster takes this process there ({why}); start it, give its token, or "
            "unset RAY_ADDRESS to run on this machine"
        ) from error


def _knock(address: str) -> None:
    """Raises an OSError where nobody listens at `host:port`; nothing is known of an address in other words (`auto`)."""
    parts = re.fullmatch(r"\[?([^/]+?)\]?:(\d+)", address)
    if parts is None:
        return
    host, port = parts[1], int(parts[2])
    local = host in {"localhost", "127.0.0.1"}  # Ray takes it for the machine's own address
    for place in [host, ray.util.get_node_ip_address()] if local else [host]:
        try:
            socket.create_connection((place, port), timeout=KNOCK_SECONDS).close()
        except OSError as error:
            refused = error
        else:
            return
    raise refused


@contextlib.contextmanager
def _own_token() -> Iterator[None]:
    """A token that nobody else knows, for a Ray that starts here; a later connection takes the user's again.

    A new local Ray switches token authentication on where RAY_AUTH_MODE is unset. With a token at hand it writes none
    to the home directory, where later clusters would find it.
    """
    before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    if before["RAY_AUTH_TOKEN"] is None:
        os.environ["RAY_AUTH_TOKEN"] = TOKEN
        _forget_token()  # that of an earlier cluster
    try:
        yield
    finally:
        file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        # Ray's threads outlive a shutdown a little, and end the process where they want a token and there is none.
        wanting = (before["RAY_AUTH_MODE"] or "").lower() == "token" and not file.exists()
        if None in before.values() and not wanting:
            for name in (name for name, value in before.items() if value is None):
                os.environ.pop(name, None)
            _forget_token()


def _forget_token() -> None:
    """Ray keeps the mode and the token of its first connection, whatever the environment says later."""
    from ray import _raylet  # there is no public way

    inner: Any = _raylet
    inner.Config.initialize("")
    inner.AuthenticationTokenLoader.instance().reset_cache()


def _start_locally(resources: Resources) -> None:
    ray.init(
        address="local",
        num_cpus=resources.num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )
