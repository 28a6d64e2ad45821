"""What a submitted job gets: files, environment variables, and the command that runs them.

From a checkout the working directory is uploaded, without results, data, environments and caches; from an installed
wheel only the sweep file, since the nodes have the wheel. Nothing is installed by the job (no `pip` in its runtime
environment): nodes have the dependencies that constraints.txt pins, and `same_versions` refuses a cluster that differs.
"""

from __future__ import annotations

import platform
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adiabatic_ray.provenance import version
from adiabatic_ray.storage import open_folder

from .sweep_files import shipped_sweeps

EXCLUDES = (
    ".git",
    "/.ci",
    "/.github",
    ".venv",
    "venv",
    ".env*",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
    ".hypothesis",
    "mlruns",
    "mlflow.db*",
    "/.bench-gpu*",
    "/build",
    "/dist",
    "/results",
    "/data",
    "/shared",
    "/benchmarks",
    "/docs",
    "/tests",
)
"""What of a checkout no job needs, or nobody should send: patterns as in .gitignore, which is heeded besides."""

FORWARDED = ("ADIABATIC_DATA", "ARXIV_METADATA", "ARXIV_NEGATIVES", "MLFLOW_TRACKING_URI")
"""Environment variables that sweeps read: handed on where they are set. No other is: no token leaves this machine."""

SUBMITTED = "submitted"
"""Folder of the working directory that holds a sweep file of the user's own."""


@dataclass(frozen=True)
class SweepCommand:
    """The options of `adiabatic sweep` that a submitted sweep is run with."""

    sweep: str
    out: str
    overrides: Sequence[str] = ()
    scale: str = "full"
    banks: str | None = None
    tracking_uri: str | None = None

    def arguments(self, sweep: str) -> list[str]:
        """Arguments of `python -m jobs.run_sweep`, with the sweep by the name that it has on the cluster."""
        found = [sweep, "--out", self.out]
        for override in self.overrides:
            found += ["--set", override]
        if self.scale != "full":
            found += ["--scale", self.scale]
        if self.banks is not None:
            found += ["--banks", self.banks]
        if self.tracking_uri is not None:
            found += ["--tracking-uri", self.tracking_uri]
        return found


def checkout() -> Path | None:
    """The checkout that this code lies in; None where it was installed from a wheel."""
    root = Path(__file__).resolve().parent.parent
    return root if all((root / name).exists() for name in ("pyproject.toml", "adiabatic_ray", "jobs")) else None


def check_command(command: SweepCommand, environment: Mapping[str, str]) -> None:
    """Refuse what could not work on a cluster, or would show a secret there.

    Raises:
        ValueError: a relative --out or --banks; a tracking URI with a password in it.
    """
    for option, folder in (("--out", command.out), ("--banks", command.banks)):
        place = open_folder(folder) if folder is not None else None
        if isinstance(place, Path) and not place.is_absolute():
            raise ValueError(
                f"{option} of a submitted sweep must be an absolute path that all nodes see, or a URI, got {folder!r}; "
                "a job's working directory is a temporary copy that is deleted with the job: give a folder of the "
                "shared storage, such as /shared/sweeps/demo"
            )
    for name, uri in (
        ("--tracking-uri", command.tracking_uri),
        ("MLFLOW_TRACKING_URI", environment.get("MLFLOW_TRACKING_URI")),
    ):
        if uri and urlsplit(uri).password:
            raise ValueError(
                f"{name} must have no password in it, got one for {urlsplit(uri).hostname}; whoever sees the dashboard "
                "sees a job's command and variables: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on the "
                "cluster's head"
            )


def forwarded(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a job gets from here: those of `FORWARDED` that are set."""
    return {name: environment[name] for name in FORWARDED if environment.get(name)}


def runtime_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Ray's `runtime_env` of a job whose working directory is `folder` (see `staged`)."""
    return {
        "working_dir": str(folder),
        "excludes": list(EXCLUDES),
        "env_vars": forwarded(environment),
    }


@contextmanager
def staged(sweep: str, root: Path | None) -> Iterator[tuple[Path, str]]:
    """A temporary folder that shows what is to be uploaded, and the name that the sweep has in it.

    The folder holds links to what lies in `root`, none of it copied, and a copy of the sweep file unless it is one of
    those that come with the project; without `root` (installed from a wheel) it holds the check of versions instead.

    Raises:
        OSError: the sweep file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="adiabatic-submit-") as name:
        folder = Path(name)
        if root is None:
            shutil.copy(Path(__file__).with_name("same_versions.py"), folder)
        else:
            for entry in root.iterdir():
                (folder / entry.name).symlink_to(entry)
        if sweep in shipped_sweeps():
            yield folder, sweep
            return
        place = folder / SUBMITTED
        if place.is_symlink():
            raise ValueError(
                f"the name {SUBMITTED!r} is kept for the sweep file in a job's working directory, got {root}/"
                f"{SUBMITTED}; rename it"
            )
        place.mkdir()
        shutil.copy(sweep, place)
        yield folder, f"{SUBMITTED}/{Path(sweep).name}"


def entrypoint(command: SweepCommand, sweep: str, root: Path | None) -> str:
    """Shell command of the job: compare versions, then run the sweep; its exit code is the job's.

    A checkout's code is uploaded, so its version needs no comparison; an installed project's does.
    """
    expected = [f"ray={version('ray')}", f"python={'.'.join(platform.python_version_tuple()[:2])}"]
    if root is None:
        check, module = "same_versions.py", "adiabatic_ray.jobs.run_sweep"
        expected.append(f"adiabatic_ray={version('adiabatic_ray')}")
    else:
        check, module = "jobs/same_versions.py", "jobs.run_sweep"
    compare = shlex.join(["python", check, *expected])
    return f"{compare} && exec {shlex.join(['python', '-m', module, *command.arguments(sweep)])}"
