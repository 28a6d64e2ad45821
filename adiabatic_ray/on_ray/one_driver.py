"""One driver for a results folder: a second one is refused while the first lives, and so is a node without the folder.

On a disk the kernel holds the lock, and lets go of it when the driver ends, however it ends. An object store has no
locks: an actor of the Ray cluster with the folder's name stands for one there, which ends with its driver too. Drivers
on different clusters are not kept apart by it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import ray

from adiabatic_ray.events import StageListener
from adiabatic_ray.object_stores import ObjectPath
from adiabatic_ray.on_ray.room import on_drivers_node
from adiabatic_ray.results import ResultsError
from adiabatic_ray.storage import Location

_FILE = ".driver"
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
    file = out / _FILE
    found = file.read_text(encoding="utf-8") if file.is_file() else ""
    if found != driver:
        raise ValueError(
            f"a results folder must be shared by all nodes, got {'another' if found else 'none'} at {out} on "
            f"{socket.gethostname()}; mount it there too, or give --out s3://BUCKET/FOLDER"
        )


@contextmanager
def _held_on_disk(out: Path, driver: str, listener: StageListener) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    # Not through a link: a folder that came from somebody else could name any file of the user's to be overwritten.
    number = os.open(out / _FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(number, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refused(out, file.read()) from None
        except OSError as error:  # a file server without locks
            listener.stage(f"{out} cannot be locked ({error.strerror}): see to it that no other driver runs there")
        file.truncate()
        file.write(driver)
        file.flush()
        yield


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
        other = ray.get_actor(name, _NAMESPACE)
        raise _refused(out, str(ray.get(other.driver.remote(), timeout=_ANSWER_S))) from None
    try:
        yield
    finally:
        ray.kill(holder)


def _refused(out: Location, driver: str) -> ResultsError:
    return ResultsError(
        f"a results folder has one driver at a time, got {out}, which {driver or 'another process'} holds; wait for "
        "its end or stop it, or give another --out"
    )
