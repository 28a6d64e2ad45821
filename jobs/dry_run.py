"""Prints the plan of a sweep."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from adiabatic_ray.search_spec import BoundarySearch, SearchSpec
from adiabatic_ray.spec import SweepSpec, TrialSpec


def print_dry_run(console: Console, spec: SweepSpec) -> None:
    """Trials, parameter counts of each freeze plan, banks and an estimate of the work.

    Raises:
        ValueError: as running the sweep would.
    """
    from adiabatic_ray.orchestration.dryrun import dry_run  # heavy: torch and the tokenizers

    plan = dry_run(spec)
    console.print(Text.assemble((spec.name, "bold"), f": {spec.question}"))
    varied = _varied(spec)
    headers = ("trial", "rate", "freeze", "seed", "batch", "stop", *(path.removeprefix("tuning.") for path in varied))
    begins = "" if spec.search is None else ", with which the search begins"
    trials = Table(*headers, title=f"{len(plan.trials)} trials{begins}")
    for trial in plan.trials:
        tuning = trial.tuning
        stop = ", ".join(
            f"{value} {text}"
            for value, text in ((tuning.idle_epochs, "idle epochs"), (tuning.max_epochs, "epochs"))
            if value is not None
        )
        trials.add_row(
            trial.trial_id,
            f"{tuning.learning_rate:g}",
            tuning.freeze or "-",
            str(tuning.seed),
            str(tuning.batch_size),
            stop,
            *(_shown(trial, path) for path in varied),
        )
    console.print(trials)
    if spec.search is not None:
        console.print(_in_words(spec.search), soft_wrap=True)
    freezing = Table("freeze plan", "towers tuned", "trainable weights", "frozen weights")
    for count in plan.freezing:
        freezing.add_row(count.freeze or "-", count.towers, f"{count.num_trainable:,}", f"{count.num_frozen:,}")
    console.print(freezing)
    resolution = Table(
        "rate", "precision", "trials", "movable weights", "tensors stuck", "decay lost", title="a full step in float32"
    )
    for row in plan.resolution:
        resolution.add_row(
            f"{row.learning_rate:g}",
            row.precision,
            str(row.num_trials),
            _range(row.least_movable_frac, row.most_movable_frac)
            + (" (others: no known bound)" if row.num_unbounded else ""),
            str(row.most_stuck_tensors),
            f"{row.num_lost_decays} trials" if row.num_lost_decays else "-",
        )
    console.print(resolution)
    for text in plan.warnings:
        console.print(f"warning: {text}", soft_wrap=True)
    banks = Table("passage bank", "texts", "MB", "tokens, about")
    for bank in plan.banks:
        banks.add_row(bank.name, f"{bank.num_texts:,}", f"{bank.num_bytes / 1e6:.1f}", f"{bank.num_tokens:,}")
    console.print(banks)
    if plan.num_both:
        console.print(
            f"{plan.num_both} of {len(plan.trials)} trials tune both towers: no bank serves a tuned passage tower, "
            f"{plan.passage_tokens_per_epoch:,} passage tokens an epoch and {plan.evaluation_passage_tokens:,} an "
            "evaluation are encoded for each of them",
            soft_wrap=True,
        )
    num_epochs = plan.trials[0].tuning.max_epochs or plan.trials[0].tuning.idle_epochs or 1
    console.print(
        f"work: {plan.tuning_tokens_per_epoch:,} query tokens an epoch, {plan.evaluation_tokens:,} an evaluation; "
        f"about {plan.total_flops(num_epochs) / 1e12:,.0f} TFLOP in all if each trial tunes for {num_epochs} epochs "
        "(the rate divides by what the machine does: some 0.05 TFLOP/s a CPU core)",
        soft_wrap=True,
    )


def _in_words(search: SearchSpec) -> str:
    """What comes after the opening trials."""
    if isinstance(search, BoundarySearch):
        aim = f"each setting until the 95% interval of its {search.criterion} is {search.width_decades:g} decades wide"
    else:
        aim = f"chosen by {search.sampler}, for gain on {search.gain_set} and what is kept on {search.set}"
    return (
        f"search: at most {search.max_trials} trials in all, {search.parallel} at a time, rates from "
        f"{search.lowest_rate:g} to {search.highest_rate:g}; {aim}"
    )


def _range(least: float | None, most: float | None) -> str:
    """Shares in per cent, as one number where they print alike."""
    if least is None or most is None:
        return "-"
    texts = [f"{100 * one:.4g}%" for one in (least, most)]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def _varied(spec: SweepSpec) -> list[str]:
    """Paths that tell the sweep's trials apart and have no column anyway."""
    columns = ("learning_rate", "freeze", "seed", "batch_size", "idle_epochs", "max_epochs")
    paths = dict.fromkeys([*spec.grid, *(path for point in spec.points for path in point)])
    have_column = {f"tuning.{name}" for name in columns} | {"evaluation", "tuning"}  # these two: too much for a cell
    return [path for path in paths if path not in have_column]


def _shown(trial: TrialSpec, path: str) -> str:
    """What a trial has there; of a backbone or a source the name."""
    place: Any = trial
    for part in path.split("."):
        place = place[int(part)] if part.isdigit() else getattr(place, part)
    return str(getattr(place, "name", place))
