"""Where a result comes from: commit, versions, command line, machine. Never part of a trial's identity.

Environment variables are not captured: they hold secrets. Credentials in the URIs of a command line are taken out.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from adiabatic_ray.redaction import without_credentials

RECORDED_PACKAGES = (
    "adiabatic_ray",
    "torch",
    "transformers",
    "tokenizers",
    "ray",
    "numpy",
    "scipy",
    "pyarrow",
    "datasets",
)
"""Packages whose version can change a number or explain a fault."""


def collect() -> dict[str, Any]:
    """Commit (with `+changes` when the tree differs from it; None outside a checkout), versions, argv, host."""
    return {
        "commit": _commit(),
        "versions": {name: version(name) for name in RECORDED_PACKAGES} | {"python": platform.python_version()},
        "argv": [without_credentials(argument) for argument in sys.argv],
        "host": platform.node(),
        "machine": platform.machine(),
        "platform": platform.platform(),
    }


def _commit() -> str | None:
    place = Path(__file__).parent
    try:
        _git(place, "ls-files", "--error-unmatch", Path(__file__).name)  # an environment inside a stranger's checkout
        commit = _git(place, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(place, "status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None  # installed from a wheel, or git is not there or too slow: the version says what ran


def _git(place: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(place), *arguments], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()


def version(name: str) -> str | None:
    """Version of an installed package; None where it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
