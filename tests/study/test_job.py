"""A study as a job of a running cluster, with token authentication, as the README says it."""

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

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
CHANGES = (
    "dataset_sizes=[8,16,32]",
    "fit_window=[8,32]",
    "reference_size=32",
    "score=null",
    "curves=[{source: real, dataset_sizes: [8]}]",
    "train.steps={base_steps: 10, reference_size: 16, steps_per_doubling: 5}",
    "evaluation_sets={adversarial: {kind: embedded, name: adversarial}}",
)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def cluster():
    """A head node of its own: ports, temporary directory, token and home are nobody else's."""
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
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    yield environment, folder
    head.kill()
    head.wait()
    _kill_all_of(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _kill_all_of(folder):
    """Ends the daemons of this head, which name its directory on their command lines; their workers end with them."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if str(folder).encode() in command:
                os.kill(int(process.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile


def _submit(environment, *arguments):
    command = [
        "ray",
        "job",
        "submit",
        "--working-dir",
        str(ROOT),
        "--",
        "python",
        "jobs/study.py",
        "quickstart",
        *arguments,
    ]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=360, check=False)


def _wait_until_up(environment):
    """Until the head's agent takes jobs, which is some seconds after its dashboard answers."""
    command = ["ray", "job", "submit", "--no-wait", "--", "true"]  # to follow the log of so short a job can hang
    for _ in range(60):
        if subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode == 0:
            return
        time.sleep(1)
    raise AssertionError("the head node did not come up")


def test_a_submitted_job_runs_the_same_study(cluster, tmp_path):
    environment, _ = cluster
    _wait_until_up(environment)
    changes = [part for change in CHANGES for part in ("--set", change)]
    done = _submit(environment, "--storage", str(tmp_path), *changes)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"{tmp_path}/studies/quickstart/report/index.html" in done.stdout
    assert (tmp_path / "studies/quickstart/report/index.html").exists()
    stranger = environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    assert _submit(stranger, "--storage", str(tmp_path)).returncode != 0
