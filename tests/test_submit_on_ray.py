"""Sweeps submitted to a real Ray head with token authentication, by the commands that a user types."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from adiabatic_ray.results import finished_trials
from tests.small_sweep import small_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 500
"""For a command to end: a minute on a quiet machine, five on a busy one."""


@dataclass
class Cluster:
    """A head of its own: where its dashboard is, and the environment of a client with its token."""

    address: str
    environment: dict[str, str]

    def run(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=ROOT,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "jobs.cli", *(str(one) for one in arguments)]


def free_ports(number: int) -> list[int]:
    held = [socket.socket() for _ in range(number)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """`ray start --head` in the foreground, on free ports; what it started is ended by id."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_TRACKING"))}
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # `python` of a job
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "COLUMNS": "200",
    }
    folder = tempfile.mkdtemp(prefix="ray")  # short: the names of sockets in it must stay below 108 bytes
    port, dashboard, client, agent = free_ports(4)
    ports = {"port": port, "dashboard-port": dashboard, "ray-client-server-port": client}
    ports |= {"dashboard-agent-listen-port": agent, "min-worker-port": 0, "max-worker-port": 0}
    others = {"temp-dir": folder, "node-ip-address": "127.0.0.1", "num-cpus": 2, "object-store-memory": 200_000_000}
    options = [f"--{name}={value}" for name, value in (ports | others).items()]
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert head.stdout is not None
        said = ""
        for line in head.stdout:
            said += line
            if "Ray runtime started" in line:
                break
        else:
            pytest.fail(f"the head did not start:\n{said}")
        yield Cluster(f"http://127.0.0.1:{dashboard}", environment)
    finally:
        started = [*psutil.Process(head.pid).children(recursive=True)] if head.poll() is None else []
        head.terminate()
        head.communicate(timeout=60)
        for process in started:
            if process.is_running():
                process.kill()
        psutil.wait_procs(started, timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outside the checkout and without anything of the tests in it: what is uploaded has to be enough."""
    folder = tmp_path_factory.mktemp("inputs")
    text = small_sweep(folder, rates=(1e-4, 1e-3)).model_dump_json()
    path = folder / "ours.py"
    path.write_text(
        "from adiabatic_ray.spec import SweepSpec\n\n\n"
        f"def sweep():\n    return SweepSpec.model_validate_json({text!r})\n"
    )
    return path


def job_of(output: str) -> str:
    found = re.search(r"^job: +(\S+)", output, re.MULTILINE)
    assert found, output
    return found[1]


def test_a_submitted_sweep_is_followed_to_its_end(cluster: Cluster, sweep_file: Path, tmp_path: Path) -> None:
    where = ("--address", cluster.address)
    done = cluster.run("submit", sweep_file, *where, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(finished_trials(tmp_path / "out")) == 2
    lines = done.stdout.splitlines()
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d trials: 2 of 2 done, 0 running, 0 failed, .*", line) for line in lines)
    assert "COMPLETE, 1 of 2 trials done" in done.stdout and lines[-1].endswith("SUCCEEDED, exit code 0")
    assert not re.search(r"[\r\x1b]", done.stdout) and "Traceback" not in done.stderr

    state = cluster.run("status", job_of(done.stdout), *where)
    assert state.returncode == 0 and "SUCCEEDED, exit code 0" in state.stdout, state.stdout + state.stderr
    assert "2 of 2 trials done" in cluster.run("status", tmp_path / "out").stdout
    for told, words in (
        (cluster.run("status", "no-such-job", *where), "which http://127.0.0.1"),
        (cluster.run("status", "any", *where, RAY_AUTH_TOKEN="0" * 32), "Invalid authentication token"),
        (cluster.run("status", "any", *where, RAY_AUTH_MODE="disabled"), "Missing authentication token"),
        (cluster.run("status", "any", *where, RAY_AUTH_TOKEN_PATH="/nowhere", RAY_AUTH_TOKEN=""), "/nowhere"),
    ):
        assert told.returncode == 2 and words in told.stderr and "Traceback" not in told.stderr, told.stderr


def test_a_sweep_that_fails_returns_its_exit_code(cluster: Cluster, sweep_file: Path, tmp_path: Path) -> None:
    """The texts are looked for on the cluster, not where the sweep is submitted."""
    wrong = ("--set", "trial.source.path=/nowhere/t.jsonl")
    done = cluster.run("submit", sweep_file, "--address", cluster.address, "--out", tmp_path / "out", *wrong)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "/nowhere/t.jsonl" in done.stdout and "FAILED, exit code 2" in done.stdout


def test_ctrl_c_leaves_the_job_running_and_stop_ends_it(cluster: Cluster, sweep_file: Path, tmp_path: Path) -> None:
    where = ("--address", cluster.address)
    long = ("--set", "trial.tuning.batches_per_epoch=5000", "--set", "trial.tuning.max_epochs=500")
    following = subprocess.Popen(
        command("submit", sweep_file, *where, "--out", tmp_path / "out", *long),
        cwd=ROOT,
        env=cluster.environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    said = ""
    for line in following.stdout:
        said += line
        if ": started" in line:
            break
    following.send_signal(signal.SIGINT)
    rest, complaint = following.communicate(timeout=60)
    assert following.returncode == 130 and "Traceback" not in complaint, said + rest + complaint
    job = job_of(said)
    assert "the job goes on" in rest and f"ray job logs --follow {job} --address {cluster.address}" in rest
    assert f"{job} RUNNING" in cluster.run("status", job, *where).stdout
    stopped = cluster.run("stop", job, *where)
    assert stopped.returncode == 0 and f"{job} is STOPPED" in stopped.stdout, stopped.stdout + stopped.stderr
    assert "had ended already" in cluster.run("stop", job, *where).stdout
