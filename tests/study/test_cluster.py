"""What is asked of a cluster is compared with what it has, before anything waits for it."""

import re

import pytest

from syn_ray.core.errors import UserError
from syn_ray.core.resources import Resources
from syn_ray.core.storage import Storage
from syn_ray.study.cluster import check_resources, check_shared

pytestmark = pytest.mark.ray


REMEDY = "ask for less, or say in `cluster` what it can grow to"


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"train": {"num_workers": 5}}, "resources, train: it asks for 5 x 1 CPU and the cluster has 4"),
        ({"train": {"use_gpu": True}}, "resources, train: it asks for 1 x 1 GPU and the cluster has 0"),
        (
            {"generate": {"label_selector": {"syn/market": "spot"}}},
            "resources, generate: no node has 1 CPU, 0 GPU and the labels {'syn/market': 'spot'}",
        ),
    ],
)
def test_what_never_comes_is_not_waited_for(ray_cluster, resources, message):
    with pytest.raises(UserError, match=f"^{re.escape(f'{message}; {REMEDY}')}$"):
        check_resources(Resources.model_validate(resources))


def test_what_there_is_or_will_be_is_accepted(ray_cluster):
    check_resources(Resources())
    check_resources(Resources.model_validate({"generate": {"label_selector": {"syn/market": "!spot"}}}))
    check_resources(
        Resources.model_validate({"cluster": {"CPU": 64, "GPU": 8}, "train": {"num_workers": 8, "cpus_per_worker": 8}})
    )


def test_one_machine_shares_its_disk_with_itself(ray_cluster, tmp_path):
    check_shared(Storage(tmp_path))
    assert list(tmp_path.iterdir()) == []
