"""Following a job's log: every line once, an end, and words where the connection or the user goes away."""

from __future__ import annotations

import asyncio
import io
import itertools
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.job_submission import JobDetails, JobStatus
from rich.console import Console

from jobs import follow_job
from jobs.cluster_jobs import ClusterError
from jobs.follow_job import LogView, exit_code, follow


def details(status: str, code: int | None = None) -> JobDetails:
    return JobDetails(type="SUBMISSION", status=JobStatus(status), entrypoint="", driver_exit_code=code)


@dataclass
class Jobs:
    """A job that says `pieces`: an error among them is raised, a signal sent, None is a silence that never ends."""

    pieces: list[str | Exception | signal.Signals | None]
    statuses: list[str] = field(default_factory=list)

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        for piece in self.pieces:
            if isinstance(piece, signal.Signals):
                signal.raise_signal(piece)
            if piece is None or isinstance(piece, signal.Signals):
                await asyncio.Event().wait()
            elif isinstance(piece, Exception):
                raise piece
            else:
                yield piece

    def details(self, job: str) -> JobDetails:
        return details(self.statuses.pop(0))

    def wait_for_end(self, job: str) -> JobDetails:
        return details("SUCCEEDED", 0)


def followed(jobs: Jobs, terminal: bool = False) -> str:
    file = io.StringIO()
    follow(jobs, "ours-1", Console(file=file, width=60, force_terminal=terminal))
    return file.getvalue()


def test_a_file_gets_the_log_as_it_is() -> None:
    text = "one [bold]line[/]\n" + "a long line " * 20 + "\nthe last, unfinished"
    assert followed(Jobs([text[:7], text[7:100], text[100:]])) == text + "\n"


@given(st.text(alphabet="ab\n [", max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_where_a_log_is_cut_makes_no_difference(text: str, cuts: list[int]) -> None:
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert followed(Jobs(list(pieces))) == followed(Jobs([text]))


def test_a_bar_that_a_library_draws_over_itself_is_shown_once() -> None:
    assert followed(Jobs(["10%\r50%\r100%\nnext\r\n"])) == "100%\nnext\n"


def test_a_terminal_shows_the_last_summary_below_the_log() -> None:
    shown = followed(Jobs(["10:11:12 trials: 3 of 20 done, 2 running\n"]), terminal=True)
    assert re.search(r"ours-1: trials: 3 of 20 done, 2 running", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))


def test_a_terminal_keeps_the_summary_through_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_job, "SILENCE_S", 0.01)
    jobs = Jobs(["10:11:12 trials: 3 of 20 done\n", None], ["RUNNING", "RUNNING", "SUCCEEDED"])
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", followed(jobs, terminal=True)).replace("\n", "")
    assert re.search(r"ours-1: RUNNING, followed for \d s; +trials: 3 of 20 done", shown)


def test_silence_is_asked_about_until_the_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_job, "SILENCE_S", 0.01)
    monkeypatch.setattr(follow_job, "NEWS_EVERY_S", 0.0)
    jobs = Jobs(["hello\n", None], ["PENDING", "RUNNING", "FAILED"])
    lines = followed(jobs).splitlines()
    assert lines[0] == "hello" and not jobs.statuses
    assert [line[9:] for line in lines[1:]] == [
        f"ours-1: {one}, nothing new in its log" for one in ("PENDING", "RUNNING")
    ]


def test_a_lost_connection_is_an_error_that_says_the_job_goes_on() -> None:
    with pytest.raises(ClusterError, match="got RuntimeError: closed with code 1006; the job goes on"):
        followed(Jobs(["hello\n", RuntimeError("closed with code 1006")]))


def test_ctrl_c_prints_what_there_is_and_leaves_the_job() -> None:
    file = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        follow(Jobs(["half a line", signal.SIGINT]), "ours-1", Console(file=file))
    assert file.getvalue() == "half a line\n"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("SUCCEEDED", None, 0),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),  # as a shell says of SIGKILL: 128 + 9
        ("FAILED", None, 1),
        ("STOPPED", None, 1),
    ],
)
def test_the_exit_code_is_the_job_s(status: str, code: int | None, expected: int) -> None:
    assert exit_code(details(status, code)) == expected


def test_a_view_that_is_closed_twice_repeats_nothing() -> None:
    file = io.StringIO()
    view = LogView(Console(file=file), "ours-1")
    view.text("rest")
    view.close()
    view.close()
    assert file.getvalue() == "rest\n"
