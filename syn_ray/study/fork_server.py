"""A process that loads the libraries of Ray's workers once and forks: a worker starts in a moment, not in seconds.

Ray starts a fresh interpreter for every worker, which loads torch, timm and diffusers anew: on two cores that was a
third of a small study. Its `py_executable` names what it starts instead: `fork_client.py`, which asks here. Ray itself
is not loaded here, as what it holds (its settings, its random identifiers) must be each worker's own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MODULES = (
    "pandas",
    "pyarrow.parquet",
    "syn_ray.train.classify",
    "syn_ray.train.clip",
    "syn_ray.evaluate.judge",
    "syn_ray.score.features",
    "syn_ray.generate.stable_diffusion",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
)
"""What workers load. It must not start threads or an accelerator, which do not survive a fork."""

ACCELERATORS = ("nvidia[0-9]*", "kfd", "dxg")
"""Their device files."""


def can_serve() -> bool:
    """Not beside an accelerator, whose runtime a library may start when it is loaded, and on Linux alone."""
    return sys.platform == "linux" and not any(any(Path("/dev").glob(pattern)) for pattern in ACCELERATORS)


@contextlib.contextmanager
def fork_server(modules: Sequence[str] = MODULES) -> Iterator[str | None]:
    """Runs the server; gives the command that has it start a worker, for `py_executable`; None where it cannot serve.

    Args:
        modules: what it loads.
    """
    if not can_serve():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="syn-ray-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address = f"{folder}/fork"
        listener.bind(address)  # here, so that workers asked for meanwhile wait until everything is loaded
        listener.listen(socket.SOMAXCONN)
        server = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", "syn_ray.study.fork_server", str(listener.fileno()), folder, *modules],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"OMP_NUM_THREADS": "1"} | os.environ,
        )
        listener.close()
        try:
            yield shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("fork_client.py")), address])
        finally:
            server.kill()
            server.communicate()


def main() -> None:
    """The server, until its standard input is closed; and every worker, which leaves it here."""
    number, folder, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # pages that no collection touches stay shared
    with socket.socket(fileno=int(number)) as listener:
        inherited = _serve(listener)
    if inherited is None:
        shutil.rmtree(folder, ignore_errors=True)  # left behind by a driver that was killed
        os._exit(0)
    _become(inherited)


def _serve(listener: socket.socket) -> dict[str, Any] | None:
    """Forks for each request, and returns it in the child; None in the server itself when it is to end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended workers need no one to wait for them
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            return None
        client, _ = listener.accept()
        with client:
            fds: list[int] = []
            try:
                fds = socket.recv_fds(client, 1, 3)[1]
                inherited = json.loads(client.makefile().read())
                if os.fork() == 0:
                    return {**inherited, "fds": fds}
                client.sendall(b".")
            except (OSError, ValueError):
                pass  # the client was killed meanwhile
            for fd in fds:
                os.close(fd)


def _become(inherited: dict[str, Any]) -> None:
    """Makes of a fork what Ray would have started: the same streams, environment and rank, running Ray's script."""
    import numpy as np

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for stream, fd in enumerate(inherited["fds"]):
        os.dup2(fd, stream)
        os.close(fd)
    os.setpgid(0, 0)  # Ray ends a worker by its process group
    os.setpriority(os.PRIO_PROCESS, 0, inherited["niceness"])
    Path("/proc/self/oom_score_adj").write_text(inherited["oom_score_adj"])
    os.environ.clear()
    os.environ.update(inherited["environ"])
    os.chdir(inherited["cwd"])
    np.random.seed()  # noqa: NPY002 - the one generator that a fork would share: Python's own seeds itself
    sys.argv = inherited["argv"]
    if "PYTHONSAFEPATH" not in os.environ:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
