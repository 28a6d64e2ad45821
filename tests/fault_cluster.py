"""Real multi-node Ray clusters on this machine, and sweeps on them, for failures at known moments.

Nodes are real raylets (`ray.cluster_utils.Cluster`), killed by SIGKILL together with the processes that they started.
The sweep is a process of its own whose output is read line by line, so that a fault comes at a known moment.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from mlflow.tracking import MlflowClient
from ray._raylet import AuthenticationTokenLoader
from ray.cluster_utils import Cluster

from adiabatic_ray import results
from adiabatic_ray.on_ray import tracking
from tests.heard_epochs import HEARD
from tests.same_rows import COMPARED, assert_same_tables

CHECKOUT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 100 * 2**20
MEMORY_BYTES = 4 * 2**30
"""What a node says it has: room for 8 processes of trials."""
_IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


def wait_until(is_so: Callable[[], Any], what: str, limit_s: float = 60, every_s: float = 0.05) -> Any:
    """What a question says once the answer is true; it is asked again and again, and fails when it is not in time."""
    give_up_s = time.monotonic() + limit_s
    while not (answer := is_so()):
        if time.monotonic() > give_up_s:
            pytest.fail(f"{what} did not come within {limit_s:g} s")
        time.sleep(every_s)
    return answer


@dataclass(frozen=True)
class Heard:
    """An epoch as the driver heard of it."""

    trial_id: str
    epoch: int
    finished_at_ms: int


@dataclass
class Driver:
    """A running sweep."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Those that come, as they come."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if epoch := re.search(rf"{HEARD} (\S+) (\d+) (\d+)$", line):
                self.heard.append(Heard(epoch[1], int(epoch[2]), int(epoch[3])))
            yield line

    def until(self, pattern: str) -> re.Match[str]:
        """Reads on to the next line with this in it; fails when there is none."""
        for line in self.lines():
            if found := re.search(pattern, line):
                return found
        pytest.fail(f"the sweep ended with {self.process.wait()}, without {pattern!r}:\n{self.text()}")

    def until_epoch(self, epoch: int) -> str:
        """Reads on until some trial has tuned so many epochs; its id."""
        return self.until(rf"{HEARD} (\S+) {epoch} \d+$")[1]

    def end(self) -> int:
        """Reads to the end; the exit code."""
        for _ in self.lines():
            pass
        return self.process.wait()

    def text(self) -> str:
        """All that was said so far."""
        return "".join(self.said)


def epochs_tuned_twice(heard: Iterable[Heard]) -> dict[str, int]:
    """Trial -> epochs of it that were tuned again."""
    times: dict[tuple[str, int], set[int]] = {}
    for one in heard:
        times.setdefault((one.trial_id, one.epoch), set()).add(one.finished_at_ms)
    twice = dict.fromkeys((trial_id for trial_id, _ in times), 0)
    for (trial_id, _), found in times.items():
        twice[trial_id] += len(found) - 1
    return twice


@contextmanager
def sweep(file: Path, out: Path, banks: Path, address: str | None, *more: str) -> Iterator[Driver]:
    """A sweep on a cluster, or, without its address, on a local Ray; killed at the end if it still runs."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
    kept |= {"PYTHONUNBUFFERED": "1", "COLUMNS": "160", "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.heard_epochs", str(file), "--out", str(out), "--banks", str(banks), *more],
        cwd=CHECKOUT,
        env=kept | ({"RAY_ADDRESS": address} if address else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a local Ray's processes are in it too
    )
    try:
        yield Driver(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


class FaultCluster:
    """A head without CPUs, on which drivers run, and the nodes that are added to it."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray")  # short: names of sockets in it must stay below 108 bytes
        self._patch = pytest.MonkeyPatch()
        self._cluster: Any = None

    def __enter__(self) -> Self:
        for name, value in {"RAY_AUTH_TOKEN": secrets.token_hex(16), "PYTHONPATH": str(CHECKOUT)}.items():
            self._patch.setenv(name, value)
        AuthenticationTokenLoader.instance().reset_cache()
        self._cluster = Cluster()
        self.head = self.add_node(num_cpus=0, include_dashboard=False, temp_dir=self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._cluster.list_all_nodes():
            self.kill_node(node)
        self._cluster.shutdown()
        self._patch.undo()
        AuthenticationTokenLoader.instance().reset_cache()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self, num_cpus: int = 1, **more: Any) -> Any:
        """Start a node, and wait until the head knows it."""
        settings = {"object_store_memory": OBJECT_STORE_BYTES, "memory": MEMORY_BYTES, "num_cpus": num_cpus}
        return self._cluster.add_node(**(settings | more))

    def processes(self, node: Any, title: str = "") -> list[psutil.Process]:
        """Processes of a node, below its raylet, whose title begins like this (such as `ray::Tuner`)."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        return [one for one in raylet.children(recursive=True) if _title(one).startswith(title)]

    def everywhere(self, title: str) -> list[psutil.Process]:
        """The same of all nodes."""
        return [one for node in self._cluster.list_all_nodes() for one in self.processes(node, title)]

    def node_of(self, title: str) -> Any:
        """The one node with such a process."""
        (found,) = [node for node in self._cluster.list_all_nodes() if self.processes(node, title)]
        return found

    def kill_node(self, node: Any) -> None:
        """As if its machine were switched off: SIGKILL for the raylet and all that it started."""
        services = [info.process for infos in node.all_processes.values() for info in infos]
        of_node = self.processes(node)
        for process in (*services, *of_node):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for service in services:
            service.wait()
        psutil.wait_procs(of_node, timeout=30)
        self._cluster.remove_node(node, allow_graceful=False)

    def check_nothing_left(self) -> None:
        """Refuse actors, placement groups and processes that a driver left behind."""
        state = self._cluster.global_state

        def is_clean() -> bool:
            actors = [one["ActorClassName"] for one in state.actor_table(None).values() if one["State"] != "DEAD"]
            groups = [one["state"] for one in state.placement_group_table().values() if one["state"] != "REMOVED"]
            processes = [title for one in self.everywhere("ray::") if (title := _title(one)) not in _IDLE]
            self._left = [*actors, *groups, *processes]
            return not self._left

        wait_until(is_clean, "the end of every actor, placement group and process of the sweep")


def _title(process: psutil.Process) -> str:
    try:
        return next(iter(process.cmdline()), "")
    except psutil.NoSuchProcess:
        return ""


def check_whole(out: Path, undisturbed: Path, uri: str | None = None) -> int:
    """Refuse a results folder that differs from an undisturbed run's, in tables or MLflow, or holds saved states.

    Returns:
        Rows that were compared.
    """
    rows = results.read_table(out, "trials").to_pylist()
    assert len({row["trial_id"] for row in rows}) == len(rows), "a trial has two rows"
    assert_same_tables(out, undisturbed)
    assert not list((out / "states").glob("*")), "a saved state was left"
    check_mlflow(uri or tracking.default_uri(out), len(rows))
    return sum(results.read_table(out, table).num_rows for table in COMPARED)


def check_mlflow(uri: str, num_trials: int) -> None:
    """Refuse anything but one parent run and one run a trial, all finished."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    trials = [run.data.tags[tracking.TRIAL_TAG] for run in runs if tracking.TRIAL_TAG in run.data.tags]
    assert len(runs) == num_trials + 1 and len(set(trials)) == len(trials) == num_trials, "runs are missing or double"
    assert {run.info.status for run in runs} == {"FINISHED"}
