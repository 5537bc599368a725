"""Workers forked from a process that has loaded what they need: as Ray would have started them, and sooner."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from syn_ray.actors import on_actors, use_given_threads
from syn_ray.core.errors import SynRayError
from syn_ray.core.resources import PoolResources
from syn_ray.study import fork_server as forking
from syn_ray.study.fork_server import MODULES, can_serve, fork_server

pytestmark = pytest.mark.ray
serves = pytest.mark.skipif(not can_serve(), reason="workers are not forked beside an accelerator or off Linux")

WORKER = """
import json, os, random, sys
import numpy as np

print("spoken", file=sys.stderr)
print(json.dumps({
    "argv": sys.argv,
    "path": sys.path,
    "name": __name__,
    "environ": dict(os.environ),
    "cwd": os.getcwd(),
    "niceness": os.nice(0),
    "leads": os.getpgid(0) == os.getpid(),
    "loaded": sorted(sys.modules),
    "threads": len(os.listdir("/proc/self/task")),
    "random": [random.random(), float(np.random.random())],
}), flush=True)
"""

DRIVER = """
import time
from syn_ray.study.fork_server import fork_server

with fork_server(["json"]) as command:
    print(command, flush=True)
    time.sleep(99)
"""


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "worker.py"
    file.write_text(WORKER)
    return file


def _start(command, script, **settings):
    """What a worker says of itself, and its standard error."""
    with (script.parent / "out").open("w+") as out, (script.parent / "err").open("w+") as err:
        arguments = [*shlex.split(command), str(script), "--a", "b c"]
        subprocess.run(arguments, stdout=out, stderr=err, check=True, **settings)
        deadline = time.monotonic() + 100
        while not (script.parent / "out").read_text().endswith("}\n"):
            assert time.monotonic() < deadline, (script.parent / "err").read_text()
            time.sleep(0.02)
        return json.loads((script.parent / "out").read_text()), (script.parent / "err").read_text()


@serves
def test_a_fork_is_what_ray_would_have_started(script):
    environment = os.environ | {"MINE": "é\n=1"}
    environment.pop("OMP_NUM_THREADS", None)
    settings = {"cwd": script.parent, "env": environment, "process_group": 0, "preexec_fn": lambda: os.nice(3)}
    plain, _ = _start(sys.executable, script, **settings)
    with fork_server(("wave", "numpy")) as command:
        forked, errors = _start(command, script, **settings)
        another, _ = _start(command, script, **settings)
    assert "wave" in set(forked.pop("loaded")) - set(plain.pop("loaded"))
    assert errors == "spoken\n"
    for name in (0, 1):
        assert forked["random"][name] != another["random"][name]
    for told in (plain, forked):
        told.pop("random")
        told.pop("threads")
        told["environ"].pop("_", None)
    assert forked == plain


@serves
def test_where_no_server_answers_an_interpreter_is_started(script):
    with fork_server(("there.is.no.such.module",)) as command:
        alone, _ = _start(command, script)
    assert alone["argv"] == [str(script), "--a", "b c"]
    after, _ = _start(command, script)
    assert "syn_ray" not in after["loaded"]


def test_it_does_not_serve_beside_an_accelerator(monkeypatch):
    monkeypatch.setattr(forking, "ACCELERATORS", ("nul[l]",))
    with fork_server() as command:
        assert command is None


@serves
def test_a_driver_that_is_killed_leaves_no_server_behind():
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    folder = Path(shlex.split(driver.stdout.readline())[-1]).parent
    deadline = time.monotonic() + 60
    while not (servers := _servers(folder)):  # a process has no command line for a moment while it starts
        assert time.monotonic() < deadline
    (server,) = servers
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    while Path(f"/proc/{server}").exists() or folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _servers(folder):
    mine = {"syn_ray.study.fork_server", str(folder)}
    return [process.name for process in Path("/proc").glob("[0-9]*") if mine <= set(_command_line(process))]


def _command_line(process):
    try:
        return (process / "cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


@serves
def test_what_is_loaded_beforehand_leaves_ray_and_threads_to_the_workers(ray_cluster, script):
    worker, _ = _start(ray.get_runtime_context().runtime_env["py_executable"], script)
    assert {"torch", "timm", "open_clip", "diffusers.models.unets.unet_2d_condition", *MODULES} <= set(worker["loaded"])
    assert "ray" not in worker["loaded"]
    assert worker["threads"] <= 2  # jemalloc has one of its own, which it starts anew


@serves
def test_actors_are_forks(ray_cluster):
    class Child:
        def __call__(self, batch):
            return {"row": batch["row"], "parent": [Path(f"/proc/{os.getppid()}/cmdline").read_text()]}

    (row,) = on_actors([{"row": 1}], Child, {}, PoolResources(), error=SynRayError, what="looking failed")
    assert "syn_ray.study.fork_server" in row["parent"]


def test_torch_computes_with_the_threads_that_ray_gave(monkeypatch):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", f"{before + 2},1")
    use_given_threads()
    assert torch.get_num_threads() == before + 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_given_threads()
    assert torch.get_num_threads() == before + 2
    torch.set_num_threads(before)
