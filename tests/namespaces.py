"""Mounts that only some processes see: a disk that is nearly full, a folder that is another one on some node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


@dataclass(frozen=True)
class Namespace:
    """Mounts of its own; they last as long as a process that only waits."""

    holder: subprocess.Popen[str]

    def command(self, *words: str) -> list[str]:
        """The same command, inside."""
        target = str(self.holder.pid)
        return ["nsenter", "--user", "--mount", "--preserve-credentials", "--wd=.", "--target", target, "--", *words]

    def run(self, *words: str) -> None:
        subprocess.run(self.command(*words), check=True)

    def outside(self, path: Path) -> Path:
        """Where a path of the inside is seen from outside."""
        return Path(f"/proc/{self.holder.pid}/root{path}")


@contextmanager
def namespace(script: str, **variables: str) -> Iterator[Namespace]:
    """Runs a shell script of mounts in a namespace of its own; skips the test where that is not allowed."""
    allowed = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if allowed.returncode:
        pytest.skip(f"no mounts in a namespace here: {allowed.stderr.strip()}")
    environment: Mapping[str, str] = os.environ | variables
    holder = subprocess.Popen(
        [*_UNSHARE, "sh", "-ec", f"{script}\necho mounted\nexec cat"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == "mounted\n", "the script of mounts failed"
        yield Namespace(holder)
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
