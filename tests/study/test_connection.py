"""The Ray a study runs on: what is said of one that does not answer or has other devices, and whose token counts."""

import io
import os
import re
import socket
import subprocess
import sys

import pytest
from rich.console import Console

from syn_ray.core.errors import SynRayError
from syn_ray.core.resources import Resources
from syn_ray.core.storage import Storage
from syn_ray.shards.manifest import Manifest, write_manifest
from syn_ray.study.cluster import _join, _knock, _start_locally
from syn_ray.study.load import load_study
from syn_ray.study.plan import StudyPlan

pytestmark = pytest.mark.ray

TOKENS = """
from syn_ray.study.cluster import _own_token
from ray._raylet import AuthenticationTokenLoader, Config, get_authentication_mode

def sent():
    return AuthenticationTokenLoader.instance().get_token_for_http_header()["authorization"].split()[1]

with _own_token():
    os.environ["RAY_AUTH_MODE"] = "token"  # as ray.init does where it is unset
    Config.initialize("")
    own = sent()
print(own != {users!r}, get_authentication_mode(), sorted(name for name in os.environ if name.startswith("RAY_AUTH")))
os.environ["RAY_AUTH_MODE"] = "token"
Config.initialize("")
print(sent() == {users!r})
with _own_token():
    print(sent() == own)  # and the Ray that would start here now has the same
"""


def test_a_local_ray_leaves_no_token_behind(tmp_path):
    """What ray.init does to the environment is done here by hand: a Ray of its own would take ten seconds."""
    users = "0123456789abcdef" * 4
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(users)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    code = "import os\n" + TOKENS.format(users=users)
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.stdout.splitlines() == ["True 0 []", "True", "True"], done.stderr


def test_a_ray_that_a_busy_machine_starts_too_slowly_is_started_again(monkeypatch):
    import ray

    failures = [Exception("The current node timed out\nduring startup.")] * 2
    asked = []

    def init(**settings):
        asked.append(settings)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    _start_locally(Resources(num_cpus=2), None)
    assert len(asked) == 3
    assert asked[0] == asked[2]
    assert asked[0]["num_cpus"] == 2
    failures.extend([Exception("The current node timed out\nduring startup.")] * 3)
    with pytest.raises(SynRayError, match=r"^Ray did not start on this machine, 3 times: The current node timed out d"):
        _start_locally(Resources(), None)
    failures.append(ValueError("object_store_memory is too small"))
    with pytest.raises(ValueError, match="too small"):
        _start_locally(Resources(), None)


def test_an_address_where_nobody_answers_is_said():
    """Ray itself knocks for more than five minutes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(SynRayError) as refused:
            _join(address)
    assert re.fullmatch(
        rf"RAY_ADDRESS is '{address}' and no cluster takes this process there \(.*Connection refused\); start it, give "
        r"its token, or unset RAY_ADDRESS to run on this machine",
        str(refused.value),
    )
    assert refused.value.exit_code == 1


@pytest.mark.parametrize("address", ["auto", "local", "ray://127.0.0.1:1", "127.0.0.1:{port}", "localhost:{port}"])
def test_addresses_that_may_answer_are_left_to_ray(address):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        _knock(address.format(port=listening.getsockname()[1]))


def test_a_source_begun_on_another_kind_of_device_is_told_before_anything_is_drawn(ray_cluster, tmp_path):
    from syn_ray.study.session import tell_devices

    plan = StudyPlan(load_study("quickstart"), Storage(tmp_path))
    for curve, device in zip(plan.curves[1:], ("cuda", "cpu", None), strict=True):
        start = Manifest(name="n", fingerprint=curve.source.fingerprint, shard_size=256, batch_size=64, device=device)
        write_manifest(plan.source_directory(curve.parts[0]), start)
    printed = io.StringIO()
    tell_devices(plan, Resources(), Console(file=printed))
    assert printed.getvalue() == (
        f"source '{plan.curves[1].source.name}' was begun on cuda and would go on here on cpu: the same seeds and "
        "noise, but images that differ by float rounding\n"
    )
