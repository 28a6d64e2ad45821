"""One driver for a results folder: a second one is refused while the first lives, and so is a node without the folder.

On a disk the kernel holds the lock, and lets go of it when the driver ends, however it ends. An object store has no
locks: an actor of the Ray cluster with the folder's name stands for one there, which ends with its driver too. Drivers
on different clusters are not kept apart by it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import ray
from ray.exceptions import RayError

from adiabatic_ray import folder_lock
from adiabatic_ray.events import StageListener
from adiabatic_ray.object_stores import ObjectPath
from adiabatic_ray.on_ray.room import on_drivers_node
from adiabatic_ray.results import ResultsError
from adiabatic_ray.storage import Location

_NAMESPACE = "adiabatic_ray"
_ANSWER_S = 30.0


@contextmanager
def only_driver(out: Location, listener: StageListener) -> Iterator[str]:
    """Hold a results folder for as long as the block lasts; gives the driver's name, which `check_shared` looks for.

    Ray must be initialised.

    Raises:
        ResultsError: another driver holds it.
        OSError: the folder cannot be written, or its lock file is a link.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    driver = f"process {os.getpid()} on {socket.gethostname()}, since {now}"
    held = _held_on_disk(out, driver, listener) if isinstance(out, Path) else _held_by_actor(out, driver)
    with held:
        yield driver


def check_shared(out: Location, driver: str) -> None:
    """On a node where a trial begins: whether its results folder is the driver's.

    Args:
        out: results folder.
        driver: of `only_driver`.

    Raises:
        ValueError: it is not: what a trial wrote there would never be seen.
    """
    if not isinstance(out, Path):
        return
    found = folder_lock.driver_of(out)
    if found != driver:
        got, fix = "none", "mount it there too"
        if found:  # another folder, or this one, where a file server without locks let a second driver begin
            got, fix = f"that of another driver ({found})", "mount it there too, and run one driver at a time"
        raise ValueError(
            f"a results folder must be shared by all nodes, got {got} at {out} on {socket.gethostname()}; {fix}, or "
            "give --out s3://BUCKET/FOLDER"
        )


@contextmanager
def _held_on_disk(out: Path, driver: str, listener: StageListener) -> Iterator[None]:
    try:
        with folder_lock.held(out, driver, listener.stage):
            yield
    except folder_lock.HeldError as error:
        raise _refused(out, str(error)) from None


@ray.remote(num_cpus=0)
class _Holder:
    def __init__(self, driver: str) -> None:
        self._driver = driver

    def driver(self) -> str:
        return self._driver


@contextmanager
def _held_by_actor(out: ObjectPath, driver: str) -> Iterator[None]:
    name = f"driver of {out}"
    options = _Holder.options(name=name, namespace=_NAMESPACE, scheduling_strategy=on_drivers_node())  # type: ignore[attr-defined]
    try:
        holder = options.remote(driver)
    except ValueError:  # the name is taken
        raise _refused(out, _name_in(name)) from None
    try:
        yield
    finally:
        with suppress(RayError):  # the cluster may be gone
            ray.kill(holder)


def _name_in(name: str) -> str:
    try:
        return str(ray.get(ray.get_actor(name, _NAMESPACE).driver.remote(), timeout=_ANSWER_S))
    except (ValueError, RayError):  # it ends at this moment, or its node did
        return ""


def _refused(out: Location, driver: str) -> ResultsError:
    return ResultsError(
        f"a results folder has one driver at a time, got {out}, which {driver or 'another process'} holds; wait for "
        "its end or stop it, or give another --out"
    )
