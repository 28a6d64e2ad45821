"""The lock on a results folder that lies on a disk: the kernel holds it, and lets go when its driver ends, however.

`OUT/.driver` is what is locked; it says who did it, to whoever is refused and to nodes that look whether they see the
same folder.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE = ".driver"
_MOST_CHARACTERS = 300
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not through a link, and not waiting for whoever writes into a pipe: the folder may come from somebody else."""
_ATTEMPTS, _PAUSE_S = 5, 0.1


class HeldError(Exception):
    """Somebody else holds the lock; the text says who."""


@contextmanager
def held(out: Path, driver: str, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock for as long as the block lasts.

    Args:
        out: results folder; made if it is not there.
        driver: who it is.
        warn: hears that a file server has no locks; the block runs all the same.

    Raises:
        HeldError: somebody else does.
        OSError: the folder cannot be written, or the file is a link.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Not through a link: a folder that came from somebody else could name any file of the user's to be overwritten.
    number = os.open(out / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with os.fdopen(number, "r+", encoding="utf-8") as file:
        try:
            _lock(number)
        except BlockingIOError:
            raise HeldError(file.read(_MOST_CHARACTERS)) from None
        except OSError as error:
            warn(f"{out} cannot be locked ({error.strerror}): see to it that no other driver runs there")
        file.truncate()
        file.write(driver)
        file.flush()
        os.fsync(number)  # other machines see what a file server has, which else is nothing before the file is closed
        yield


def driver_of(out: Path) -> str:
    """Who held the lock last; empty: nobody ever did, or what is there is no plain file."""
    try:
        number = os.open(out / FILE, _READ)
    except OSError:
        return ""
    with os.fdopen(number, "rb") as file:
        return file.read(_MOST_CHARACTERS).decode(errors="replace") if stat.S_ISREG(os.fstat(number).st_mode) else ""


def holder_of(out: Path) -> str | None:
    """Who holds the lock now, as far as this machine's kernel knows; None: nobody, or it can't be told."""
    try:
        number = os.open(out / FILE, _READ)
    except OSError:  # there is none
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return driver_of(out)
    except OSError:  # a file server without locks
        return None
    finally:
        os.close(number)
    return None


def _lock(number: int) -> None:
    """Who looks whether it is held (`holder_of`) has it for a moment: whoever is there longer is a driver."""
    for _ in range(_ATTEMPTS):
        with suppress(BlockingIOError):
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE_S)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
