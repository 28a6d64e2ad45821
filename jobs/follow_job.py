"""Follows the logs of a submitted job until it ends: every line, and on a terminal one line of progress below them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Protocol

from ray.job_submission import JobDetails, JobStatus
from rich.console import Console
from rich.status import Status

from .cluster_jobs import ClusterError
from .progress import SUMMARY
from .sweep_status import span

SILENCE_S = 15.0
"""Without a line for so long the cluster is asked whether the job still runs."""
NEWS_EVERY_S = 300.0
"""Least time between two lines that say so, where nobody watches."""


class Jobs(Protocol):
    """What following needs of `ClusterJobs`."""

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """Pieces of the job's log, from its beginning on."""

    def details(self, job: str) -> JobDetails:
        """State of the job."""

    def wait_for_end(self, job: str) -> JobDetails:
        """State of the job once it has ended."""


class LogView:
    """Prints a log line by line; on a terminal the sweep's last summary stays below."""

    def __init__(self, console: Console, job: str) -> None:
        self._console = console
        self._job = job
        self._rest = ""
        self._summary = "nothing said of its trials yet"
        self._started_s = self._last_news_s = time.monotonic()
        self._status: Status | None = None
        if console.is_terminal:
            self._status = console.status(f"{job}: waiting for its first line")
            self._status.start()

    def close(self) -> None:
        """Print what is left of an unfinished line, and end the line of progress."""
        if self._rest:
            self._print(self._rest)
            self._rest = ""
        if self._status is not None:
            self._status.stop()

    def text(self, piece: str) -> None:
        """A piece of the log, cut anywhere."""
        *lines, self._rest = (self._rest + piece).split("\n")
        for line in lines:
            self._print(line)
            if self._status is not None and (found := re.search(rf"{re.escape(SUMMARY)}.*", line)):
                self._summary = found[0]
                self._status.update(f"{self._job}: {self._summary}")
        self._last_news_s = time.monotonic()

    def silence(self, status: JobStatus) -> None:
        """The job was asked after, since it says nothing."""
        if self._status is not None:
            self._status.update(
                f"{self._job}: {status}, followed for {span(time.monotonic() - self._started_s)}; {self._summary}"
            )
        elif time.monotonic() - self._last_news_s > NEWS_EVERY_S:
            self._last_news_s = time.monotonic()
            self._print(f"{time.strftime('%H:%M:%S')} {self._job}: {status}, nothing new in its log")

    def _print(self, line: str) -> None:
        """One line; a bar that a library drew over itself is cut to what it showed last."""
        self._console.print(line.rstrip("\r").rpartition("\r")[2], soft_wrap=True, markup=False, highlight=False)


def follow(jobs: Jobs, job: str, console: Console) -> JobDetails:
    """Print a job's log until it ends.

    Raises:
        ClusterError: the connection is lost; the job goes on.
        KeyboardInterrupt: ctrl-C; the job goes on.
    """
    view = LogView(console, job)
    try:
        asyncio.run(_print_log(jobs, job, view))
    finally:
        view.close()
    return jobs.wait_for_end(job)


def exit_code(details: JobDetails) -> int:
    """Exit code of an ended job: its command's own; 128 and the signal, as in a shell; 1 where it never got to one."""
    if details.status == JobStatus.SUCCEEDED:
        return 0
    code = details.driver_exit_code
    if not code:
        return 1
    return code if code > 0 else 128 - code


async def _print_log(jobs: Jobs, job: str, view: LogView) -> None:
    log = jobs.tail_job_logs(job)
    while True:
        piece = asyncio.ensure_future(anext(log, None))
        while not (await asyncio.wait({piece}, timeout=SILENCE_S))[0]:
            status = jobs.details(job).status
            if status.is_terminal():
                piece.cancel()
                return
            view.silence(status)
        try:
            text = piece.result()
        except Exception as error:  # Ray's client raises what it meets: its own, aiohttp's, the system's
            raise ClusterError(
                f"the log of {job} must stay connected, got {type(error).__name__}: {error}; the job goes on"
            ) from error
        if text is None:
            return
        view.text(text)
