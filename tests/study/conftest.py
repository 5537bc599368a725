"""A cluster of one machine that takes jobs, with token authentication, as the README says it."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def submit_job():
    """Has a head node run `python jobs/study.py ARGUMENT...`, submitted with changes to the environment.

    Ports, temporary directory, token and home are nobody else's.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: Unix sockets lie below it
    dashboard = _free_port()
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "HOME": str(folder),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    command = ["ray", "start", "--head", "--port", _free_port(), "--dashboard-port", dashboard, "--num-cpus", "3"]
    # Two heads on one machine must not share the agents' ports, which are fixed unless they are said.
    command += ["--dashboard-agent-listen-port", _free_port(), "--dashboard-agent-grpc-port", _free_port()]
    command += ["--temp-dir", str(folder), "--disable-usage-stats", "--node-ip-address", "127.0.0.1", "--block"]

    def submit(*arguments, **changes):
        command = ["ray", "job", "submit", "--working-dir", str(ROOT), "--", "python", "jobs/study.py", *arguments]
        return subprocess.run(
            command, env=environment | changes, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False
        )

    head = _start_head(command, environment, folder)
    yield submit
    _kill_all_of(folder)
    head.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _start_head(command, environment, folder):
    """At the third attempt at the latest: Ray gives its agents 15 seconds, and a busy machine may not."""
    for _ in range(3):
        with (folder / "head.log").open("w") as log:
            head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        if _comes_up(head, environment):
            return head
        _kill_all_of(folder)
        head.wait()
    raise AssertionError(f"the head node did not come up: {(folder / 'head.log').read_text()}")


def _kill_all_of(folder):
    """Ends every process of this head: all have its home. An agent left without its raylet would spin for minutes."""
    home = f"HOME={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if home in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it ended meanwhile, or is another user's


def _comes_up(head, environment):
    """Waits for the head's agent to take jobs, which is some seconds after its dashboard answers."""
    command = ["ray", "job", "submit", "--no-wait", "--", "true"]  # to follow the log of so short a job can hang
    for _ in range(60):
        if head.poll() is not None:
            return False
        if subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode == 0:
            return True
        time.sleep(1)
    return False
