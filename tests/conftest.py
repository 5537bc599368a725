"""What many tests share: one Ray for all tests that need one, in one process."""

import os
import secrets

# Ray reads these when it is imported. A token of our own: none is written to the home directory. Its workers run at
# niceness 15 unless told otherwise, and would wait for the other process's tests. Nobody reads its metrics, reports and
# logs, and workers that it starts before it knows their environment are of no use.
os.environ.update(
    {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_prestart_worker_first_driver": "0",
        "REPORTER_UPDATE_INTERVAL_MS": "600000",
        "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
        "LOG_NAME_UPDATE_INTERVAL_S": "600",
        "OMP_NUM_THREADS": "1",
    }
)

import pytest

from syn_ray.study.environment import set_environment

set_environment()


def pytest_itemcollected(item):
    """Tests that share a Ray or a process to fork from run in one process; those on the shared Ray are slow.

    Those of a module that starts a Ray of its own go to one process as well. Here, because when the collection is
    modified xdist has read its groups already.
    """
    if "ray_cluster" in item.fixturenames:
        item.add_marker(pytest.mark.xdist_group("ray"))
        item.add_marker(pytest.mark.slow)
    elif "start_script" in item.fixturenames:
        item.add_marker(pytest.mark.xdist_group("forks"))
    elif item.get_closest_marker("ray"):
        item.add_marker(pytest.mark.xdist_group(item.module.__name__))


@pytest.fixture(scope="session")
def ray_cluster():
    """A local Ray with more logical CPUs than the machine has."""
    from syn_ray.core.resources import Resources
    from syn_ray.study.cluster import connected

    with connected(Resources(num_cpus=4)):
        yield
