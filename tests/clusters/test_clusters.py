"""The cluster files: Ray's own schema accepts them, and they keep this project's rules."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from syn_ray.core.resources import load_resources

CLUSTERS = Path(__file__).parents[2] / "clusters"
LAUNCHER = ("local", "aws", "gcp")
CLOUDS = ("aws", "gcp")
EVERY = (*LAUNCHER, "kuberay-job")
CRD = "KUBERAY_RAYJOB_CRD"


def load(name: str) -> dict[str, Any]:
    config = yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text())
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("name", LAUNCHER)
def test_rays_own_schema_accepts_it(name: str) -> None:
    validate_config(prepare_config(load(name)))


def test_rays_schema_would_catch_a_misspelt_key() -> None:
    """That the test above can fail at all."""
    config = load("aws")
    config["available_node_types"]["gpu-spot"]["max_worker"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", LAUNCHER)
def test_token_authentication_is_on_for_every_process(name: str) -> None:
    config = load(name)
    assert "--env=RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    for command in [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        assert command == "ray stop" or command.startswith("RAY_AUTH_MODE=token ray start ")
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}


@pytest.mark.parametrize("name", EVERY)
def test_no_secret_stands_in_the_file(name: str) -> None:
    text = (CLUSTERS / f"{name}.yaml").read_text()
    assert not re.search(r"RAY_AUTH_TOKEN\s*[=:]\s*\S|AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|password", text)
    assert not re.search(r"\b[0-9a-f]{40,}\b", text)


@pytest.mark.parametrize("name", EVERY)
def test_the_image_has_a_version(name: str) -> None:
    images = set(re.findall(r"image: (?:&image )?([^*\s]+)", (CLUSTERS / f"{name}.yaml").read_text()))
    assert images == {"your-registry/syn-ray:0.1.0"}


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_dashboard_is_reached_through_the_tunnel_only(name: str) -> None:
    start = load(name)["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--disable-usage-stats" in start


@pytest.mark.parametrize("name", CLOUDS)
def test_no_work_lands_on_the_head(name: str) -> None:
    config = load(name)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0}
    assert head["max_workers"] == 0
    assert "spot" not in json.dumps(head).lower()


def test_no_work_lands_on_the_local_head() -> None:
    assert "--num-cpus=0" in load("local")["head_start_ray_commands"][-1]


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_are_labelled_and_scale_to_nothing(name: str) -> None:
    config = load(name)
    workers = {key: kind for key, kind in config["available_node_types"].items() if key != config["head_node_type"]}
    assert {kind["labels"]["syn/market"] for kind in workers.values()} == {"spot", "on-demand"}
    for kind in workers.values():
        assert 0 == kind["min_workers"] <= kind["max_workers"] <= config["max_workers"]
        assert kind["idle_timeout_s"] > 0
        assert kind["resources"]["GPU"] > 0
        market = kind["labels"]["syn/market"]
        assert ("spot" in json.dumps(kind["node_config"]).lower()) == (market == "spot")
    assert workers["gpu-spot"]["priority"] > workers["gpu-on-demand"]["priority"]


def test_every_local_machine_joins() -> None:
    config = load("local")
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])


def test_kuberay_job_is_whole() -> None:
    job = load("kuberay-job")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_kuberay_runs_the_version_of_ray_that_is_tested() -> None:
    constraints = (CLUSTERS.parent / "constraints.txt").read_text()
    version = load("kuberay-job")["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"\nray=={version}\n" in constraints
    assert f"FROM rayproject/ray:{version}-py311-gpu" in (CLUSTERS / "Dockerfile").read_text()


def test_kuberay_start_parameters_are_strings() -> None:
    """A number is refused by the operator's schema: `num-cpus: 0` must be "0"."""
    cluster = load("kuberay-job")["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_kuberay_workers_are_labelled_and_scale_to_nothing() -> None:
    groups = load("kuberay-job")["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [group["labels"]["syn/market"] for group in groups] == ["spot", "on-demand"]
    assert groups[0]["priority"] > groups[1]["priority"]
    for group in groups:
        assert 0 == group["minReplicas"] == group["replicas"] <= group["maxReplicas"]
        container = group["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def strict(schema: Any) -> Any:
    """The operator's schema as plain JSON schema: unknown keys are refused, Kubernetes' own extensions understood."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {key: strict(part) for key, part in schema.items() if not key.startswith("x-kubernetes") and key != "format"}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept["additionalProperties"] = False
    return kept


def crd_schema(crd: dict[str, Any]) -> Any:
    version = next(version for version in crd["spec"]["versions"] if version["name"] == "v1")
    schema = copy.deepcopy(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return strict(schema)


def test_the_operators_own_schema_accepts_the_job() -> None:
    path = os.environ.get(CRD)
    if not path:
        pytest.skip(f"{CRD} is not set: give it the path of ray.io_rayjobs.yaml from the KubeRay operator's CRDs")
    jsonschema.validate(load("kuberay-job"), crd_schema(yaml.safe_load(Path(path).read_text())))


def test_the_schema_reader_refuses_what_the_operator_would() -> None:
    """On a small schema of the operator's kind, so that the reader is tested where no CRD is at hand."""
    body = {
        "type": "object",
        "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {"cpu": {"x-kubernetes-int-or-string": True, "format": "x"}}},
        },
    }
    schema = crd_schema({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": body}}]}})
    jsonschema.validate({"spec": {"cpu": "500m"}, "metadata": {"name": "x"}}, schema)
    with pytest.raises(jsonschema.ValidationError, match="cpus"):
        jsonschema.validate({"spec": {"cpus": 1}}, schema)


def test_the_example_of_resources_is_one_and_fits_the_cloud_clusters() -> None:
    resources = load_resources(CLUSTERS / "resources.yaml")
    for name in CLOUDS:
        nodes = load(name)["available_node_types"].values()
        for kind, most in resources.cluster.items():
            assert sum(node["resources"].get(kind, 0) * node["max_workers"] for node in nodes) >= most
        assert max(node["resources"]["CPU"] for node in nodes) >= resources.train.cpus_per_worker
