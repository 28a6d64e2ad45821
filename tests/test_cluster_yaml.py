"""cluster.yaml against the schema of the installed Ray, and against its promises: secret, loopback, spot, storage."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.sweep_files import shipped_sweeps

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Found without importing ray, which takes a second."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.submodule_search_locations
    return json.loads(Path(spec.submodule_search_locations[0], "autoscaler", "ray-schema.json").read_text())


def workers(config: dict[str, Any]) -> dict[str, Any]:
    return {name: node for name, node in config["available_node_types"].items() if name != config["head_node_type"]}


def start_command(config: dict[str, Any], program: str) -> str:
    (command,) = [line for line in config["head_start_ray_commands"] if program in line]
    return command


def test_valid_by_the_schema_of_the_installed_ray(config, schema):
    jsonschema.validate(config, schema)


def test_schema_refuses_a_misspelt_key(config, schema):
    wrong = copy.deepcopy(config)
    wrong["max_worker"] = wrong.pop("max_workers")
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(wrong, schema)


def test_head_on_demand_workers_on_spot_from_zero(config):
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "memory": 0}, "a trial reserves nothing but memory"
    assert "InstanceMarketOptions" not in head["node_config"]
    assert workers(config)
    for node in workers(config).values():
        assert node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert node["resources"]["GPU"] >= 1
        assert node["min_workers"] == 0 < node["max_workers"] <= config["max_workers"]


def test_token_authentication_on_every_node(config):
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_dashboard_and_mlflow_listen_on_loopback_only(config):
    assert "--dashboard-host=127.0.0.1" in start_command(config, "ray start --head")
    assert "--host 127.0.0.1" in start_command(config, "mlflow server")
    assert "0.0.0.0" not in (ROOT / "cluster.yaml").read_text()


def test_shared_storage_is_mounted_on_all_nodes_and_in_their_containers(config):
    assert any(re.search(r"mount -t nfs4 .* /shared$", line) for line in config["initialization_commands"])
    assert "--volume /shared:/shared" in config["docker"]["run_options"]
    assert "--artifacts-destination /shared/" in start_command(config, "mlflow server")


def test_images_carry_the_pinned_ray(config):
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    for image in (config["docker"]["head_image"], config["docker"]["worker_image"]):
        assert image.startswith(f"rayproject/ray:{pinned}-py311")


def test_the_command_that_it_shows_is_the_real_one():
    (line,) = re.findall(r"^#   adiabatic (submit .*?)  ", (ROOT / "cluster.yaml").read_text(), flags=re.MULTILINE)
    words = line.split()
    assert words[1] in shipped_sweeps() and words[words.index("--out") + 1].startswith("/shared/")
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
