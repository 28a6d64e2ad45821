"""How far a sweep is: `adiabatic status OUT` from its files, `adiabatic status JOB --address URL` from the cluster.

One command, told apart by --address alone: what it reads never depends on what happens to lie in the current folder.
"""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adiabatic_ray.storage import open_folder

from .environment import plain_console, prepare_client
from .errors import user_errors
from .sweep_status import read_status, span, status_lines

if TYPE_CHECKING:  # it imports Ray
    from ray.job_submission import JobDetails


@user_errors
def status(
    target: Annotated[
        str, typer.Argument(metavar="OUT|JOB", help="Results folder; with --address the id of a submitted job.")
    ],
    address: Annotated[
        str | None, typer.Option("--address", metavar="URL", help="Dashboard of the cluster that runs the job.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show how far a sweep is: from its results folder alone, without Ray, or the state of a submitted job."""
    now = datetime.now(UTC)
    if address is None:
        folder = open_folder(target)
        if not folder.is_dir():
            raise ValueError(
                f"status takes a results folder, or a job id with --address, got {target!r}, which is no folder; give "
                "the --out of a sweep, or add --address http://127.0.0.1:8265"
            )
        found = read_status(folder)
        content, lines = found.as_json(), status_lines(found, now)
    else:
        prepare_client(address)
        from .cluster_jobs import ClusterJobs  # heavy: Ray

        details = ClusterJobs(address).details(target)
        content, lines = job_json(target, details), job_lines(target, details, now)
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    console = plain_console()
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def job_json(job: str, details: JobDetails) -> dict[str, Any]:
    """A job's state with units in the names; times in UTC, ISO 8601. Its variables are left out."""
    started, ended = (_time(value) for value in (details.start_time, details.end_time))
    return {
        "job": job,
        "status": str(details.status),
        "message": details.message,
        "exit_code": details.driver_exit_code,
        "started_at": started.isoformat() if started else None,
        "ended_at": ended.isoformat() if ended else None,
        "metadata": details.metadata or {},
    }


def job_lines(job: str, details: JobDetails, now: datetime) -> list[str]:
    """What a terminal shows; of a message with a log in it the first line and the last."""
    started, ended = (_time(value) for value in (details.start_time, details.end_time))
    code = "" if details.driver_exit_code is None else f", exit code {details.driver_exit_code}"
    since = (
        f", {span(((ended or now) - started).total_seconds())} since {started:%Y-%m-%d %H:%M:%S} UTC" if started else ""
    )
    lines = [f"{job} {details.status}{code}{since}"]
    message = [line for line in (details.message or "").splitlines() if line.strip()]
    lines += message[:1] + message[1:][-1:]
    if out := (details.metadata or {}).get("out"):
        lines.append(f"trials: adiabatic status {shlex.quote(out)}   (where that folder is seen)")
    return lines


def _time(value_ms: int | None) -> datetime | None:
    return datetime.fromtimestamp(value_ms / 1000, UTC) if value_ms else None
