"""The lock on a results folder that lies on a disk: the kernel holds it, and lets go when its driver ends, however.

`OUT/.driver` is what is locked; it says who did it, to whoever is refused and to nodes that look whether they see the
same folder.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = ".driver"


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
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(file.read()) from None
        except OSError as error:
            warn(f"{out} cannot be locked ({error.strerror}): see to it that no other driver runs there")
        file.truncate()
        file.write(driver)
        file.flush()
        yield


def driver_of(out: Path) -> str:
    """Who held the lock last; empty: nobody ever did."""
    file = out / FILE
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def holder_of(out: Path) -> str | None:
    """Who holds the lock now, as far as this machine's kernel knows; None: nobody, or it can't be told."""
    try:
        with (out / FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return driver_of(out)
    except OSError:  # no such file, or a file server without locks
        return None
    return None
