"""The Ray a study runs on: the cluster it finds itself on, or one started for it on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from syn_ray.core.errors import SynRayError, UserError
from syn_ray.core.resources import PoolResources, Resources, TrainResources
from syn_ray.core.storage import Storage
from syn_ray.study.environment import ENVIRONMENT
from syn_ray.study.fork_server import fork_server

QUIET = ("ray.data", "ray.train", "ray.tune")
OBJECT_STORE_BYTES = 512 * 2**20
"""Of a Ray started here that is told nothing else: the largest built-in study holds 20 MB of images at a time."""

REMEDY = "ask for less, or say in `cluster` what it can grow to"

KNOCK_SECONDS = 20.0
START_ATTEMPTS = 3
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
            _start_locally(resources, leaving.enter_context(fork_server()))
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


def _start_locally(resources: Resources, py_executable: str | None) -> None:
    """Starts Ray here, at the third attempt at the latest: it gives its agents 15 seconds, and a busy machine may not.

    Raises:
        SynRayError: it did not start.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=resources.num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env=None if py_executable is None else {"py_executable": py_executable},
                logging_level=logging.ERROR,
                object_store_memory=resources.object_store_bytes or OBJECT_STORE_BYTES,
            )
        except ValueError:  # what was asked for is wrong, and stays so
            raise
        except Exception as error:
            ray.shutdown()
            if attempt == START_ATTEMPTS:
                why = " ".join(str(error).split())
                raise SynRayError(f"Ray did not start on this machine, {attempt} times: {why}; run again") from error
        else:
            return


def check_resources(resources: Resources) -> None:
    """Compares what the work asks for with the nodes there are, because Ray waits for what never comes.

    Nothing is compared where `cluster` says what the cluster can grow to, beyond the sums.

    Raises:
        UserError: no node has what an actor or a worker asks for, or the cluster is too small for a group of workers.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    if not resources.cluster and total.get("CPU", 0) < 1:
        raise UserError(
            "this cluster has no worker node yet, so nobody knows how large it can grow; say it in the resources file "
            "(--resources), for example cluster: {CPU: 128, GPU: 16}"
        )
    stages: dict[str, PoolResources | TrainResources] = {
        name: getattr(resources, name) for name in ("prompts", "generate", "score", "train", "evaluate")
    }
    for name, stage in stages.items():
        if isinstance(stage, TrainResources):
            cpus, gpus, together = stage.cpus_per_worker, float(stage.on_gpu(total)), stage.num_workers
        else:
            cpus, gpus, together = stage.cpus_per_actor, stage.gpus(total), 1
        for kind, one in {"CPU": cpus, "GPU": gpus}.items():
            most = stage.grown(total).get(kind, 0)
            if one * together > most:
                raise UserError(
                    f"resources, {name}: it asks for {together} x {one:g} {kind} and the cluster has {most:g}; {REMEDY}"
                )
        if not resources.cluster and not any(_fits(node, cpus, gpus, stage.label_selector) for node in nodes):
            labels = f" and the labels {stage.label_selector}" if stage.label_selector else ""
            raise UserError(f"resources, {name}: no node has {cpus:g} CPU, {gpus:g} GPU{labels}; {REMEDY}")


def check_shared(storage: Storage) -> None:
    """Has every node look for a file that is written here, where the storage is a directory and not an object store.

    Raises:
        UserError: a node does not see it; shards written there would be lost to the rest.
    """
    nodes = {n["NodeID"]: n["NodeName"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1}
    folder = storage.local_path
    if folder is None or len(nodes) < 2:
        return
    probe = f".probe-{secrets.token_hex(4)}"
    storage.write_bytes(probe, b"syn_ray")
    try:
        looks = {
            name: ray.remote(Path.exists)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            .remote(folder / probe)
            for node, name in nodes.items()
        }
        blind = [name for name, seen in zip(looks, ray.get(list(looks.values())), strict=True) if not seen]
    finally:
        storage.delete_file(probe)
    if blind:
        raise UserError(
            f"storage '{storage.display}' is a directory that node {blind[0]} does not see; give one that all nodes "
            "share, for example --storage s3://bucket/folder"
        )


def _fits(node: dict[str, Any], cpus: float, gpus: float, labels: Mapping[str, str] | None) -> bool:
    """Whether a node has so much in all; labels that are expressions (`in(a, b)`, `!a`) are left to Ray."""
    has = node["Resources"]
    plain = {key: value for key, value in (labels or {}).items() if not set(value) & set("!(")}
    alike = all(node["Labels"].get(key) == value for key, value in plain.items())
    return alike and has.get("CPU", 0) >= cpus and has.get("GPU", 0) >= gpus
