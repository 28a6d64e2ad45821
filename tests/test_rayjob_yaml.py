"""jobs/rayjob.yaml against KubeRay's custom resource and against its promises: command, token, storage, spot.

What is checked of the resource was read in ray-project/kuberay, `ray-operator/apis/ray/v1`: rayjob_types.go at commit
f6ef3f7b32639dc6555797512d7cb784bd436901 and raycluster_types.go at 3275ee09f6a6c899c37e82ea6349785536de6bd4 (a field
without `omitempty` is required), and `authOptions`, which is newer, in the field reference of KubeRay 1.6.2 in
Ray's documentation. No Kubernetes cluster was asked.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from jobs.run_sweep import app
from jobs.sweep_files import shipped_sweeps
from tests.test_packaging import PROJECT

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
"""`rayStartParams` is a Go map[string]string: a number without quotes would be refused."""
COUNT = {"type": "integer", "minimum": 0}
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "properties": {
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "object", "required": ["name", "image"]},
                },
            },
        }
    },
}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    """An object without other fields: Kubernetes drops what it does not know without a word."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


HEAD = closed(["template", "rayStartParams"], template=POD, rayStartParams=TEXTS, serviceType={"enum": ["ClusterIP"]})
WORKERS = closed(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    groupName={"type": "string"},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS,
    template=POD,
)
CLUSTER = closed(
    ["headGroupSpec"],
    rayVersion={"type": "string"},
    authOptions=closed([], mode={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=closed([], idleTimeoutSeconds=COUNT),
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
SCHEMA = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata={"type": "object", "required": ["name"]},
    spec=closed(
        ["entrypoint", "rayClusterSpec"],
        entrypoint={"type": "string"},
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
        backoffLimit=COUNT,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=CLUSTER,
    ),
)


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "jobs" / "rayjob.yaml").read_text())


@pytest.fixture(scope="module")
def pods(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_every_field_is_one_of_the_resource_s_and_none_is_missing(manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest, SCHEMA)


def test_the_check_refuses_a_misspelt_and_a_missing_field(manifest: dict[str, Any]) -> None:
    for wrong in (
        manifest | {"spec": manifest["spec"] | {"entryPoint": "python"}},
        manifest | {"spec": {"entrypoint": "python"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_the_command_is_the_real_one(manifest: dict[str, Any]) -> None:
    python, flag, module, sweep, *options = shlex.split(manifest["spec"]["entrypoint"])
    assert (python, flag) == ("python", "-m") and sweep in shipped_sweeps()
    folder, name = module.removeprefix("adiabatic_ray.").split(".")  # in the wheel `jobs` lies inside the package
    assert module.startswith("adiabatic_ray.") and (ROOT / folder / f"{name}.py").is_file()
    assert CliRunner().invoke(app, [sweep, *options, "--help"]).exit_code == 0
    assert options[0] == "--out" and options[1].startswith("/shared/") and len(options) == 2


def test_ray_and_image_are_those_of_the_project(manifest: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert manifest["spec"]["rayClusterSpec"]["rayVersion"] == pinned
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert images == {f"adiabatic-ray:{PROJECT['version']}"}


def test_a_token_is_wanted_and_nothing_is_open_to_the_outside(manifest: dict[str, Any]) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_all_pods_see_the_folder_that_results_go_to(pods: list[dict[str, Any]]) -> None:
    for pod in pods:
        assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": "adiabatic-shared"}}]
        assert [container["volumeMounts"] for container in pod["containers"]] == [
            [{"name": "shared", "mountPath": "/shared"}]
        ]


def test_the_head_stays_and_workers_come_from_spot_from_zero(
    manifest: dict[str, Any], pods: list[dict[str, Any]]
) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    start = cluster["headGroupSpec"]["rayStartParams"]
    assert start["num-cpus"] == start["memory"] == "0", "a trial reserves nothing but memory"
    assert cluster["enableInTreeAutoscaling"] is True
    head, *workers = (pod["nodeSelector"]["karpenter.sh/capacity-type"] for pod in pods)
    assert head == "on-demand" and workers == ["spot"] * len(cluster["workerGroupSpecs"])
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
