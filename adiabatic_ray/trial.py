"""One trial from specification to rows on disk: tune, evaluate, record. Knows nothing of Ray.

Whoever runs it says how a tower is tuned and scored (`tune`, `score`: in this process, or by pools of actors) and who
hears of the epochs (`report`). The row in `trials` is written last: it means that the trial is done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from adiabatic_ray import results
from adiabatic_ray.encoders import tower_files
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.statistics import cosine_tables, counts, score_tables
from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.storage import Location
from adiabatic_ray.tuning.news import EpochReport, Tuned

Report = Callable[[EpochReport], None]
Tune = Callable[[TrialSpec, Report], Tuned]
"""Tunes a trial and reports its epochs. After an interruption epochs come again: a report takes the place of what was
reported about its epoch and later ones."""
Score = Callable[[Mapping[str, np.ndarray]], list[Counts]]
"""Counts of every evaluation set for the tower with these changed tensors."""


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a group share."""

    sweep: str
    out: Location
    untuned_id: str
    untuned: Sequence[Counts]
    bank_s: float
    """See the column of that name."""
    provenance: Mapping[str, Any]


def run_trial(
    trial: TrialSpec,
    context: TrialContext,
    tune: Tune,
    score: Score,
    report: Report,
) -> TrialStatus:
    """Tune, evaluate and record one trial.

    Raises:
        ValueError: a specification that cannot be run (nothing to train, too few samples).
        OSError: results cannot be written; what was written is whole, and the trial counts as not done.
    """
    trial_id, encoder_digest, started_at = trial.trial_id, trial.backbone.encoder_digest, datetime.now(UTC)
    assert encoder_digest is not None, "a trial is pinned before it is run"
    reports: list[EpochReport] = []

    def heard(epoch: EpochReport) -> None:
        reports[epoch.epoch :] = [epoch]
        report(epoch)

    tuned = tune(trial, heard)
    last = reports[-1]
    is_broken = last.stopped_by == "diverged" or not all(np.isfinite(value).all() for value in tuned.tensors.values())
    status = TrialStatus.DIVERGED if is_broken else TrialStatus.COMPLETE
    changed = {name: value for name, value in tuned.tensors.items() if name in tuned.changed}
    evaluation_started = time.monotonic()
    scored = score(changed) if status is TrialStatus.COMPLETE else None
    writing_started = time.monotonic()
    if scored is not None:
        tower_files.save_tower(
            context.out / "towers" / trial_id, changed, trial.backbone.name, encoder_digest, trial_id
        )
        write_scores(context.out, trial_id, context.untuned, scored)
    results.write_table(context.out, "curves", trial_id, [_curve_row(trial_id, epoch) for epoch in reports])
    results.write_table(context.out, "drift", trial_id, [{"trial_id": trial_id, **row} for row in tuned.drift])
    row = {
        "trial_id": trial_id,
        "sweep": context.sweep,
        "status": status.value,
        "learning_rate": trial.tuning.learning_rate,
        "optimizer": trial.tuning.optimizer,
        "schedule": trial.tuning.schedule,
        "precision": trial.tuning.precision,
        "freeze": trial.tuning.freeze,
        "seed": trial.tuning.seed,
        "batch_size": trial.tuning.batch_size,
        "margin": trial.tuning.margin,
        "weight_decay": trial.tuning.weight_decay,
        "backbone": trial.backbone.name,
        "encoder_digest": encoder_digest,
        "untuned_id": context.untuned_id,
        "num_trainable": sum(value.size for value in tuned.tensors.values()),
        "num_frozen": tuned.num_frozen,
        "num_epochs": last.epoch,
        "num_steps": last.num_steps,
        "kept_epoch": _kept_epoch(reports, trial),
        "stopped_by": "diverged" if is_broken else last.stopped_by,
        "queue_s": tuned.queue_s,
        "load_s": tuned.load_s,
        "bank_s": context.bank_s,
        "tune_s": last.elapsed_s,
        "evaluate_s": 0.0 if scored is None else writing_started - evaluation_started,
        "write_s": time.monotonic() - writing_started,
        "peak_memory_bytes": tuned.peak_memory_bytes,
        "started_at": started_at,
        "finished_at": datetime.now(UTC),
        "spec_json": trial.model_dump_json(),
        "provenance_json": json.dumps(dict(context.provenance), sort_keys=True),
    }
    results.write_table(context.out, "trials", trial_id, [row])
    return status


def write_scores(out: Location, file_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> None:
    """Write the tables that a tower's counts give: `scores`, `aggregates`, `rankings`, `influence`, `cosines`.

    Raises:
        OSError: a table cannot be written.
    """
    for table, rows in (
        ("scores", score_tables.score_rows),
        ("aggregates", score_tables.aggregate_rows),
        ("rankings", score_tables.ranking_rows),
        ("influence", counts.influence_rows),
        ("cosines", cosine_tables.cosine_rows),
    ):
        results.write_table(out, table, file_id, rows(file_id, untuned, tuned))


def _curve_row(trial_id: str, report: EpochReport) -> dict[str, Any]:
    row = asdict(report) | {"trial_id": trial_id}
    del row["stopped_by"]
    row["finished_at"] = datetime.fromtimestamp(row.pop("finished_at_ms") / 1000, UTC)
    return row


def _kept_epoch(reports: Sequence[EpochReport], trial: TrialSpec) -> int:
    if trial.tuning.keep == "final":
        return reports[-1].epoch
    return max((report.epoch for report in reports if report.improved), default=0)
