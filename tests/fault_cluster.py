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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from tests.namespaces import Namespace
from tests.same_rows import COMPARED, assert_same_tables

CHECKOUT = Path(__file__).resolve().parent.parent
OBJECT_STORE_BYTES = 100 * 2**20
MEMORY_BYTES = 4 * 2**30
"""What a node says it has: room for some processes of trials."""
NO_ROOM_BYTES = 100 * 2**20
"""The same where none fits."""
_IDLE = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::IDLE_SpillWorker", "ray::IDLE_RestoreWorker")
"""Processes of a node itself; the last two once its object store was full."""


def wait_until(
    is_so: Callable[[], Any], what: str, limit_s: float = 60, every_s: float = 0.05, left: Sequence[str] = ()
) -> Any:
    """What a question says once the answer is true; it is asked again and again, and fails when it is not in time.

    `left` is what still stands in the way, told when it fails.
    """
    give_up_s = time.monotonic() + limit_s
    while not (answer := is_so()):
        if time.monotonic() > give_up_s:
            pytest.fail(f"{what} did not come within {limit_s:g} s{'; left: ' if left else ''}{', '.join(left)}")
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
def sweep(
    file: Path, out: Path, banks: Path, address: str | None, *more: str, inside: Namespace | None = None
) -> Iterator[Driver]:
    """A sweep on a cluster, or, without its address, on a local Ray; killed at the end if it still runs."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
    kept |= {"PYTHONUNBUFFERED": "1", "COLUMNS": "160", "PYTHONPATH": str(CHECKOUT)}
    command = (sys.executable, "-m", "tests.heard_epochs", file, "--out", out, "--banks", banks, *more)
    words = [str(word) for word in command]
    process = subprocess.Popen(
        inside.command(*words) if inside else words,
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

    def __init__(self, **head: Any) -> None:
        """Nothing is started yet; `head` takes the place of what its node has by default."""
        self._head, self._foreign = head, list[subprocess.Popen[bytes]]()
        self._folder = tempfile.mkdtemp(prefix="ray")  # short: names of sockets in it must stay below 108 bytes
        self._patch = pytest.MonkeyPatch()
        self._cluster: Any = None

    def __enter__(self) -> Self:
        for name, value in {"RAY_AUTH_TOKEN": secrets.token_hex(16), "PYTHONPATH": str(CHECKOUT)}.items():
            self._patch.setenv(name, value)
        AuthenticationTokenLoader.instance().reset_cache()
        self._cluster = Cluster()
        # Without the services that a sweep does not need: each is a process more on a small machine.
        bare = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        try:
            self.head = self.add_node(**{"num_cpus": 0, "temp_dir": self._folder} | bare | self._head)
        except BaseException:  # Ray gives a node 30 s to start
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._cluster.list_all_nodes():
            self.kill_node(node)
        for raylet in self._foreign:
            end_all(psutil.Process(raylet.pid))
            raylet.wait()
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

    def add_foreign_node(self, place: Namespace) -> None:
        """The same in a namespace of its own, with other mounts."""
        num_nodes = len(self._live_nodes())
        sizes = {"num-cpus": 1, "memory": MEMORY_BYTES, "object-store-memory": OBJECT_STORE_BYTES}
        options = [f"--{name}={value}" for name, value in ({"address": self.address} | sizes).items()]
        words = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--min-worker-port=0", *options)
        self._foreign.append(subprocess.Popen(place.command(*words, "--max-worker-port=0"), stdout=subprocess.DEVNULL))
        wait_until(lambda: len(self._live_nodes()) > num_nodes, "the foreign node", limit_s=120)

    def _live_nodes(self) -> list[str]:
        return [one["NodeID"] for one in self._cluster.global_state.node_table() if one["Alive"]]

    def spilled_bytes(self) -> int:
        """Objects that were written to the disk because an object store is full."""
        return sum(file.stat().st_size for file in Path(self._folder).glob("session_*/ray_spilled_objects*/*"))

    def logs(self, kind: str) -> str:
        """What some kind of Ray's processes wrote."""
        found = Path(self._folder).glob(f"session_*/logs/{kind}*")
        return "".join(file.read_text(errors="replace") for file in found if file.is_file())

    def processes(self, node: Any, beginning: str = "") -> list[psutil.Process]:
        """Processes of a node, below its raylet, whose title begins like this (such as `ray::Tuner`)."""
        try:
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            return [one for one in raylet.children(recursive=True) if title(one).startswith(beginning)]
        except psutil.NoSuchProcess:  # a raylet whose head is gone ends by itself
            return []

    def everywhere(self, beginning: str) -> list[psutil.Process]:
        """The same of all nodes."""
        return [one for node in self._cluster.list_all_nodes() for one in self.processes(node, beginning)]

    def node_of(self, beginning: str) -> Any:
        """The one node with such a process."""
        (found,) = [node for node in self._cluster.list_all_nodes() if self.processes(node, beginning)]
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
        state, left = self._cluster.global_state, list[str]()

        def is_clean() -> bool:
            actors = [one["ActorClassName"] for one in state.actor_table(None).values() if one["State"] != "DEAD"]
            groups = [one["state"] for one in state.placement_group_table().values() if one["state"] != "REMOVED"]
            titles = [title(process) for process in self.everywhere("ray::")]
            left[:] = [*actors, *groups, *(one for one in titles if one not in ("", *_IDLE))]
            return not left

        wait_until(is_clean, "the end of every actor, placement group and process of the sweep", left=left)


def title(process: psutil.Process) -> str:
    """What Ray writes there: the actor's class, and the method while it is in one; nothing once it has ended."""
    try:
        return next(iter(process.cmdline()), "")
    except psutil.NoSuchProcess:
        return ""


def end_all(process: psutil.Process) -> None:
    """SIGKILL for a process and all that it started."""
    ended = [process, *process.children(recursive=True)]
    for one in ended:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(ended[1:], timeout=30)


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
