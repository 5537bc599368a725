"""Work given to Ray: rows through a pool of actors that each hold one model, and a function that is tried once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from syn_ray.core.errors import SynRayError, root_cause
from syn_ray.core.resources import PoolResources

TASKS_IN_FLIGHT = 2
"""Rows given to an actor at a time: the next one waits beside it, the others stay free for actors that are faster."""


def on_actors(
    rows: Sequence[Mapping[str, Any]],
    actor: type,
    arguments: Mapping[str, Any],
    resources: PoolResources,
    *,
    error: type[SynRayError],
    what: str,
    gpus: float | None = None,
    most_actors: int | None = None,
) -> Iterator[dict[str, Any]]:
    """Maps rows, one a call, by Ray Data over a pool of actors; an actor that dies is replaced and its row done again.

    Args:
        rows: of plain values.
        actor: called with a batch of one row (columns as numpy arrays), answers with columns.
        arguments: what an actor is made with.
        resources: how many actors, and with what.
        error: the class of what is raised where no error of ours is inside of Ray's.
        what: words for it.
        gpus: of one actor, where the resources do not decide.
        most_actors: what the work is worth; None: one a row.

    Yields:
        The answers' rows, in no order.
    """
    cluster = ray.cluster_resources()
    gpus = resources.gpus(cluster) if gpus is None else gpus
    most = resources.actors(cluster, gpus, len(rows) if most_actors is None else most_actors)
    answers = ray.data.from_items(list(rows), override_num_blocks=len(rows)).map_batches(
        actor,
        fn_constructor_kwargs=dict(arguments),
        batch_size=1,
        compute=ActorPoolStrategy(
            min_size=1, max_size=most, initial_size=most, max_tasks_in_flight_per_actor=TASKS_IN_FLIGHT
        ),
        num_cpus=resources.cpus_per_actor,
        num_gpus=gpus or None,
        label_selector=resources.label_selector,
    )
    try:
        yield from answers.iter_rows()
    except ray.exceptions.RayError as cause:
        raise root_cause(cause, error, what) from cause


def try_once(
    function: Callable[..., Any], *arguments: Any, resources: PoolResources, error: type[SynRayError], what: str
) -> Any:
    """Calls a function on the resources of an actor, so that what cannot start is an error and not a loop.

    Ray restarts an actor whose start crashes for ever; a task is tried once.

    Args:
        function: runs in a process of its own.
        arguments: of the function.
        resources: of an actor.
        error: the class of what is raised where the process dies, or what it raises is not ours.
        what: words for it.
    """
    task = ray.remote(function).options(
        num_cpus=resources.cpus_per_actor,
        num_gpus=resources.gpus(ray.cluster_resources()),
        max_retries=0,
        label_selector=resources.label_selector,
    )
    try:
        return ray.get(task.remote(*arguments))
    except ray.exceptions.RayError as cause:
        raise root_cause(cause, error, what) from cause


def use_given_threads() -> None:
    """Has torch compute with as many threads as Ray gave CPUs to this process, which is known only once it has work.

    Torch reads the number when it is loaded, which in a forked worker (`syn_ray.study.fork_server`) was before.
    """
    import torch

    threads = os.environ.get("OMP_NUM_THREADS")  # of Ray, where the user has not set it
    if threads is not None:
        torch.set_num_threads(int(threads.split(",")[0]))  # OpenMP takes a number for each level
