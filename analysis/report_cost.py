"""Section of the report: what the trials cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .material import Material
from .page import Block, Paragraph, Section, text_table
from .wording import format_rate

_TIMES = ("queue_s", "load_s", "tune_s", "evaluate_s", "write_s")
_MANY_ROWS = 40
"""With more, rates of a group are summed up."""


def cost_section(material: Material) -> Section:
    """Hours, epochs and memory, by settings and rate."""
    sweep = material.sweep
    rates = {trial_id: spec.tuning.learning_rate for trial_id, spec in sweep.trial_specs.items()}
    trials = sweep.trials.assign(
        rate=sweep.trials["trial_id"].map(rates), settings=sweep.trials["trial_id"].map(sweep.groups)
    )
    first, last = trials["started_at"].min(), trials["finished_at"].max()
    wall = (last - first).total_seconds()
    text = (
        f"{len(trials)} finished trials: {_hours(trials['tune_s'].sum())} of tuning and "
        f"{_hours(trials['evaluate_s'].sum())} of evaluation, waiting included, added up over trials that ran side by "
        f"side; {int(trials['num_epochs'].sum()):,} epochs, {int(trials['num_steps'].sum()):,} steps. From the first "
        f"start to the last end {_hours(wall)} passed, pauses included."
    )
    has_groups = len(material.groups) > 1
    keys = ["settings", "rate"] if has_groups else ["rate"]
    if trials.groupby(keys).ngroups > _MANY_ROWS and has_groups:
        keys = ["settings"]
    rows = [_row(keys, key, part) for key, part in trials.groupby(keys, sort=False)]
    titles = [*keys, "trials", "epochs", "steps", *_TIMES, "peak memory MB", "stopped by"]
    blocks: list[Block] = [Paragraph(text)]
    alignment = "".join("<" if title in {"settings", "stopped by"} else ">" for title in titles)
    blocks.append(text_table("Means over trials", titles, rows, alignment))
    sources = (
        f"Table trials ({', '.join(_TIMES)}, num_epochs, num_steps, peak_memory_bytes, stopped_by, started_at, "
        "finished_at). Means leave out what a trial's version did not measure. "
        "A trial's tune_s is wall time in a process that may tune several trials at once. In Python: "
        f"pandas.read_parquet({str(sweep.out / 'trials')!r}).",
    )
    return Section("cost", "Cost", tuple(blocks), sources)


def _row(keys: list[str], key: object, part: pd.DataFrame) -> list[str]:
    values = key if isinstance(key, tuple) else (key,)
    named = [
        format_rate(float(value), 3) if name == "rate" else str(value) for name, value in zip(keys, values, strict=True)
    ]
    stopped = part["stopped_by"].value_counts()
    return [
        *named,
        str(len(part)),
        f"{part['num_epochs'].mean():.3g}",
        f"{part['num_steps'].mean():,.0f}",
        *(_seconds(part[name].mean()) for name in _TIMES),
        f"{part['peak_memory_bytes'].mean() / 1e6:,.0f}",
        ", ".join(f"{name} {number}" if len(stopped) > 1 else str(name) for name, number in stopped.items()),
    ]


def _seconds(mean: float) -> str:
    """`-`: written by a version that did not measure it."""
    return "-" if np.isnan(mean) else f"{mean:,.1f}" if mean < 10 else f"{mean:,.0f}"


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
