"""How far a sweep is, from its results folder alone: no Ray, wherever the folder can be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adiabatic_ray import results
from adiabatic_ray.folder_lock import holder_of
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.storage import Location


@dataclass(frozen=True)
class SweepStatus:
    """Trials of a sweep as it is now, counted; trials that were taken out of it are not."""

    sweep: str
    num_trials: int
    num_complete: int
    num_diverged: int
    failed: dict[str, str]
    """Trials whose last attempt failed for good: id -> last line of the error. The sweep tries them again next time."""
    busy_s: float
    """Time during which at least one of the finished trials was under way: pauses between two runs do not count."""
    last_finished_at: datetime | None
    driver: str | None
    """Who runs it now; None: nobody, or it can't be told from here (a bucket, a file server without locks)."""

    @property
    def num_done(self) -> int:
        """Trials with a result: COMPLETE or DIVERGED."""
        return self.num_complete + self.num_diverged

    @property
    def num_left(self) -> int:
        """Trials that are running or missing: files do not tell the two apart."""
        return self.num_trials - self.num_done - len(self.failed)

    @property
    def trials_per_hour(self) -> float | None:
        """Finished trials by `busy_s`; None before the first has finished."""
        return self.num_done / self.busy_s * 3600 if self.num_done and self.busy_s > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Seconds that `num_left` trials take at that rate, if they are being run; None where there is no rate."""
        rate = self.trials_per_hour
        return None if rate is None else self.num_left / rate * 3600

    def as_json(self) -> dict[str, Any]:
        """All of it, with units in the names; times in UTC, ISO 8601."""
        finished = self.last_finished_at
        return {
            "sweep": self.sweep,
            "trials": self.num_trials,
            "complete": self.num_complete,
            "diverged": self.num_diverged,
            "failed": self.failed,
            "running_or_missing": self.num_left,
            "trials_per_hour": self.trials_per_hour,
            "eta_s": self.eta_s,
            "last_finished_at": finished.isoformat() if finished else None,
            "driver": self.driver,
        }


def read_status(out: Location) -> SweepStatus:
    """How far the sweep in a results folder is.

    Raises:
        ResultsError: no results folder, or a file in it that is damaged or of another version.
    """
    sweep = results.read_sweep(out)
    trial_ids = set(sweep["trial_ids"])
    columns = ["trial_id", "status", "started_at", "finished_at"]
    rows = [
        row for row in results.read_table(out, "trials", columns=columns).to_pylist() if row["trial_id"] in trial_ids
    ]
    statuses = [TrialStatus(row["status"]) for row in rows]
    failures = {key: value for key, value in results.failed_trials(out).items() if key in trial_ids}
    return SweepStatus(
        sweep=sweep["spec"]["name"],
        num_trials=len(trial_ids),
        num_complete=statuses.count(TrialStatus.COMPLETE),
        num_diverged=statuses.count(TrialStatus.DIVERGED),
        failed={key: _last_line(str(value.get("error", ""))) for key, value in failures.items()},
        busy_s=busy_seconds((row["started_at"], row["finished_at"]) for row in rows),
        last_finished_at=max((row["finished_at"] for row in rows), default=None),
        driver=holder_of(out) if isinstance(out, Path) else None,
    )


def busy_seconds(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """Length of the union of spans of time, in seconds.

    Args:
        spans: beginning and end of each; they may overlap. One that ends before it begins, by a clock that was set
            back, has no length.
    """
    total_s, covered_to = 0.0, datetime.min.replace(tzinfo=UTC)
    for start, end in sorted(spans):
        total_s += max(0.0, (end - max(start, covered_to)).total_seconds())
        covered_to = max(end, covered_to)
    return total_s


def status_lines(status: SweepStatus, now: datetime) -> list[str]:
    """What a terminal shows."""
    diverged = f" ({status.num_diverged} of them diverged)" if status.num_diverged else ""
    lines = [
        f"{status.sweep}: {status.num_done} of {status.num_trials} trials done{diverged}, {status.num_left} running or "
        f"missing, {len(status.failed)} failed"
    ]
    if status.last_finished_at is not None:
        ago_s = (now - status.last_finished_at).total_seconds()
        ago = f"{span(ago_s)} ago" if ago_s >= 0 else "by a clock ahead of this machine's"
        lines.append(f"last finished: {status.last_finished_at:%Y-%m-%d %H:%M:%S} UTC, {ago}")
    if status.trials_per_hour is not None and status.eta_s is not None:
        running = "" if status.driver else ", if it is running"
        left = f"; {span(status.eta_s)} left at that rate{running}" if status.num_left else ""
        lines.append(f"rate: {status.trials_per_hour:.3g} trials an hour while any was under way{left}")
    if status.driver:
        lines.append(f"run by {status.driver}")
    lines += [f"{trial_id} FAILED: {error}" for trial_id, error in status.failed.items()]
    return lines


def span(seconds: float) -> str:
    """A length of time for people: seconds up to 90, minutes up to 90, hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no error was recorded"])[-1]
