"""Runs a sweep: pin, build the banks, place the pools, let Ray Tune schedule the trials that are missing.

Ray is a shell around `trial.run_trial`. The order of the steps is what keeps a cluster from locking up: banks are built
by tasks that end, then the pools that score and tune are placed, and only then do trials, which hold neither CPU nor
GPU, lease what the pools offer. A trial that is finished on disk is never run again, so running the same command again
resumes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from adiabatic_ray import provenance, results
from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.evaluation.prepare import EvaluationInputs, Inputs, Loader, prepare
from adiabatic_ray.events import Listener, StageListener
from adiabatic_ray.on_ray.bank_tasks import ensure_banks
from adiabatic_ray.on_ray.cluster import check_resources
from adiabatic_ray.on_ray.devices import device_for
from adiabatic_ray.on_ray.evaluation_pool import EvaluationPool
from adiabatic_ray.on_ray.evaluators import place_evaluators, share_sets, with_passages
from adiabatic_ray.on_ray.one_driver import only_driver
from adiabatic_ray.on_ray.room import nodes_beside, num_tuners
from adiabatic_ray.on_ray.scheduling import Group, schedule, trial_config
from adiabatic_ray.on_ray.scoring_desk import SharedSets
from adiabatic_ray.on_ray.tuner_pool import MaterialRefs
from adiabatic_ray.on_ray.tuners import place_tuners
from adiabatic_ray.orchestration.plans import ConfigOf, Plan, open_plan
from adiabatic_ray.results import ResultsError
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import ClusterSpec, SweepSpec, TrialSpec, TuningSpec, UntunedSpec
from adiabatic_ray.statistics import cosine_tables, counts
from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.statistics.step_resolution import StepResolution, StepResolutions
from adiabatic_ray.storage import Location
from adiabatic_ray.tuning.optim import check_optimizer
from adiabatic_ray.tuning.pack import packs_alone
from adiabatic_ray.tuning.schedules import check_schedule
from adiabatic_ray.tuning.tune import trainable_names


@dataclass(frozen=True)
class SweepOutcome:
    """How a run of a sweep ended, counted in trials."""

    num_trials: int
    num_finished_before: int
    statuses: Mapping[str, TrialStatus]
    """Trials of this run: id -> terminal state."""


def pin_trials(spec: SweepSpec, loader: Loader) -> list[TrialSpec]:
    """The sweep's trials with digests filled in, checked as far as that is possible without running them.

    Raises:
        ValueError: data or weights that cannot be loaded, two trials of the same content, a freeze plan that matches
            nothing or leaves nothing to train, fewer samples than one batch, no validation samples, an optimizer or
            schedule of the user's own that can't be used.
    """
    trials = [loader.pin(trial) for trial in spec.expand()]
    first_with_id: dict[str, int] = {}
    for position, trial in enumerate(trials):
        if (other := first_with_id.setdefault(trial.trial_id, position)) != position:
            raise ValueError(
                f"trials must differ, got the same content at positions {other} and {position} ({trial.trial_id}); "
                "remove one of the two"
            )
        inputs = loader.load(trial)
        if not trainable_names(inputs.backbone, trial.tuning.freeze)[0]:
            raise ValueError(f"a trial must train something, got {trial.tuning.freeze!r}, which freezes every tensor")
        if len(inputs.tuning.queries) < trial.tuning.batch_size:
            raise ValueError(
                f"{trial.source.name}: tuning needs at least one batch of {trial.tuning.batch_size} samples, got "
                f"{len(inputs.tuning.queries)}; lower tuning.batch_size or raise num_tune"
            )
    for tuning in {trial.tuning.model_dump_json(): trial.tuning for trial in trials}.values():
        check_optimizer(tuning)
        check_schedule(tuning)
    return trials


def resolutions_of(trials: Iterable[TrialSpec], loader: Loader) -> list[StepResolution]:
    """Step resolution of pinned trials, in their order."""
    resolutions, found = StepResolutions(), []
    for trial in trials:
        backbone = loader.load(trial).backbone
        trainable, _ = trainable_names(backbone, trial.tuning.freeze)
        assert trial.backbone.encoder_digest is not None, "trials are pinned"
        found.append(resolutions.of(trial.backbone.encoder_digest, backbone.weights, trainable, trial.tuning))
    return found


def warnings_of(resolutions: Iterable[StepResolution]) -> list[str]:
    """What a user should know before tuning starts, each text once."""
    return list(dict.fromkeys(text for one in resolutions if (text := one.warning) is not None))


def run_sweep(spec: SweepSpec, out: Location, banks: Location, listener: Listener) -> SweepOutcome:
    """Run every trial of a sweep that is not finished yet.

    Ray must be initialised: locally, or connected to a cluster. One driver at a time works on a results folder; who
    does more with it than this takes `only_driver` around both, and calls `run_as_driver`.

    Args:
        spec: the sweep.
        out: results folder, shared by all nodes.
        banks: folder of passage banks, read and written by this process only.
        listener: hears of progress.

    Raises:
        ValueError: anything the user must mend; nothing was started then, or what was done is kept.
        OSError: the results folder cannot be written.
        KeyboardInterrupt: stopped by ctrl-C; finished trials are on disk.
    """
    with only_driver(out, listener) as driver:
        return run_as_driver(spec, out, banks, driver, listener)


def run_as_driver(spec: SweepSpec, out: Location, banks: Location, driver: str, listener: Listener) -> SweepOutcome:
    """`run_sweep` of a folder that is held already; `driver` is what `only_driver` gives."""
    listener.stage("reading backbone and texts")
    loader = Loader()
    trials = {trial.trial_id: trial for trial in pin_trials(spec, loader)}
    plan = open_plan(spec, trials, out)
    trial_ids = plan.trial_ids
    _record_sweep(spec, out, trial_ids)
    done = results.finished_trials(out)
    if others := len(done.keys() - set(trial_ids)):
        listener.stage(
            f"{others} finished trials in {out} are not of this sweep as it is now; its report leaves them out"
        )
    num_before = len(done.keys() & set(trial_ids))
    if plan.is_over:
        listener.sweep_started(num_before, num_before)
        _tell(plan, listener)
        return SweepOutcome(num_before, num_before, {})
    check_resources(spec.cluster, listener)
    for text in warnings_of(resolutions_of(plan.openings, loader)):
        listener.stage(text)
    _announce_loners(spec.cluster, [(loader.load(trial).backbone, trial.tuning) for trial in plan.settings], listener)
    shared: dict[str, tuple[UntunedSpec, MaterialRefs, SharedSets, float]] = {}
    for trial in plan.settings:
        key = _group_key(trial)
        if key not in shared:
            alike = [sets for untuned, _, sets, _ in shared.values() if untuned == trial.untuned]
            parts = _share(key, loader.load(trial), alike, banks, spec.cluster, listener)
            shared[key] = trial.untuned, *parts
    listener.stage("placing the pools")
    pool = place_evaluators(spec.cluster, listener)
    try:
        num_actors = num_tuners(spec.cluster, plan.num_left, nodes_beside(pool.reserved))
        tuners = place_tuners(spec.cluster, num_actors, out.resolve() / "states")
        try:
            listener.stage("scoring the untuned backbone")
            untuned_refs: dict[str, Any] = {}
            groups = {}
            for key, (untuned, material, sets, bank_s) in shared.items():
                untuned_id = untuned_id_of(untuned, spec.cluster)
                if untuned_id not in untuned_refs:
                    untuned_refs[untuned_id] = ray.put(_untuned(untuned_id, sets, pool, out, listener))
                groups[key] = Group(material, sets, untuned_id, untuned_refs[untuned_id], bank_s)
            listener.sweep_started(num_before + plan.num_left, num_before)
            queue = plan.queue(_recording(spec, out, trial_ids), listener)
            statuses = schedule(spec, out, queue, groups, pool, tuners, driver, listener)
        finally:
            tuners.close()
    finally:
        pool.close()
    _tell(open_plan(spec, trials, out), listener)
    return SweepOutcome(num_before + len(statuses), num_before, statuses)


def _recording(spec: SweepSpec, out: Location, trial_ids: list[str]) -> ConfigOf:
    """Tune's configuration of a trial. One that a search chooses is written into sweep.json before it starts."""

    def config_of(trial: TrialSpec) -> dict[str, Any]:
        if trial.trial_id not in trial_ids:
            trial_ids.append(trial.trial_id)
            _record_sweep(spec, out, trial_ids)
        return trial_config(trial, _group_key(trial))

    return config_of


def _tell(plan: Plan, listener: StageListener) -> None:
    for line in plan.verdict():
        listener.stage(line)


def _announce_loners(
    cluster: ClusterSpec, trials: Sequence[tuple[Backbone, TuningSpec]], listener: StageListener
) -> None:
    num_alone = sum(packs_alone(backbone, tuning) for backbone, tuning in trials)
    if cluster.pack_size > 1 and num_alone:
        listener.stage(
            f"{num_alone} of {len(trials)} trials are tuned one at a time and not in packs: they have dropout, tune "
            "both towers, or have an encoder of another layout than BERT's"
        )
    if num_both := sum(tuning.towers == "both" for _, tuning in trials):
        listener.stage(
            f"{num_both} of {len(trials)} trials tune both towers: they encode passages at every step and for their "
            "evaluation, whatever is in the banks"
        )


def _share(
    key: str, inputs: Inputs, alike: Sequence[SharedSets], banks: Location, cluster: ClusterSpec, listener: Listener
) -> tuple[MaterialRefs, SharedSets, float]:
    """Put a group's backbone, triplets and evaluation sets into the object store; build missing banks, in seconds.

    `alike` holds the sets of groups with the same backbone and evaluation, if there are any: they are shared, so that
    towers of all these groups are scored together.
    """
    backbone_ref = alike[0].backbone_ref if alike else ray.put(inputs.backbone)
    started = time.monotonic()
    opened = open_banks(inputs, backbone_ref, banks, cluster, listener)
    bank_s = time.monotonic() - started
    kit = prepare(inputs, opened)
    sets = alike[0] if alike else share_sets(backbone_ref, kit.evaluation, inputs)
    if inputs.towers == "both" and not sets.passage_refs:
        sets = with_passages(sets, inputs)
    tuning_ref = ray.put((kit.tuning, kit.validation))
    return MaterialRefs(key, backbone_ref, tuning_ref, inputs.token_budget), sets, bank_s


def open_banks(
    inputs: EvaluationInputs, backbone_ref: Any, banks: Location, cluster: ClusterSpec, listener: StageListener
) -> list[np.ndarray]:
    """Banks [P, D] in the order of `inputs.bank_texts()`; what is missing is encoded first.

    Raises:
        ValueError: as `ensure_banks`.
    """
    listener.stage("passage bank")
    opened = ensure_banks(
        banks,
        [(inputs.bank_key(texts), texts) for texts in inputs.bank_texts()],
        inputs.backbone,
        backbone_ref,
        cluster,
        listener,
    )
    return [np.asarray(bank_PD) for bank_PD in opened]


def _untuned(
    untuned_id: str, sets: SharedSets, pool: EvaluationPool, out: Location, listener: StageListener
) -> list[Counts]:
    """Counts of the untuned backbone; of a lower precision it is told what it changes."""
    untuned = untuned_counts(untuned_id, lambda: pool.score({}, sets), out)
    if sets.precision != "float32":
        exact = pool.score({}, dataclasses.replace(sets, precision="float32"))
        _record_precision(out, untuned_id, sets.precision, untuned, exact, listener)
    return untuned


def untuned_counts(untuned_id: str, score: Callable[[], list[Counts]], out: Location) -> list[Counts]:
    """Counts and samples of an untuned backbone: from the results folder when they are there, else scored and kept.

    Raises:
        ResultsError: a table of another schema version.
        OSError: the folder cannot be written.
    """
    tables = {"untuned": counts.untuned_rows, "untuned_queries": cosine_tables.query_rows}
    if not all(results.table_path(out, table, untuned_id).is_file() for table in tables):
        scored = score()
        for table, rows in tables.items():
            results.write_table(out, table, untuned_id, rows(untuned_id, scored))
    counted, sampled = (results.read_table(out, table, [untuned_id]).to_pylist() for table in tables)
    return cosine_tables.with_samples(counts.counts_from_rows(counted), sampled)


def _record_precision(
    out: Location,
    untuned_id: str,
    precision: str,
    untuned: Sequence[Counts],
    exact: Sequence[Counts],
    listener: StageListener,
) -> None:
    """Say, and write to `OUT/precision/`, how many counts of the untuned tower a lower precision changes."""
    changed = sum(counts.num_changed(other) for counts, other in zip(untuned, exact, strict=True))
    total = sum(int(counts.comparisons_K.sum()) for counts in untuned)
    listener.stage(f"{precision} changes {changed:,} of {total:,} comparisons of the untuned tower, at least")
    content = {"untuned_id": untuned_id, "precision": precision, "num_changed": changed, "num_comparisons": total}
    results.write_json(out / "precision" / f"{untuned_id}.json", content)


def _group_key(trial: TrialSpec) -> str:
    """Hash of what the trials of a group share: all but how they are tuned, beyond which towers are."""
    shared = trial.model_copy(update={"tuning": type(trial.tuning)(towers=trial.tuning.towers)})
    return hashlib.sha256(shared.canonical().encode()).hexdigest()[:16]


def untuned_id_of(untuned: UntunedSpec, cluster: ClusterSpec) -> str:
    """Names an untuned backbone's counts: its content, and what else moves the last bits of an embedding.

    A tower that is scored on another device, with other threads or by another torch is compared with an untuned tower
    scored alike, so that rate 0 changes nothing.
    """
    alike = [
        device_for(cluster.evaluator_gpus),
        cluster.evaluator_threads,
        *(provenance.version(name) for name in ("torch", "transformers")),
    ]
    return f"{untuned.untuned_id}-{hashlib.sha256(json.dumps(alike).encode()).hexdigest()[:6]}"


def _record_sweep(spec: SweepSpec, out: Location, trial_ids: Sequence[str]) -> None:
    """Write sweep.json, or refuse a folder that belongs to another sweep."""
    if (out / "sweep.json").exists():
        other = results.read_sweep(out)["spec"]["name"]
        if other != spec.name:
            raise ResultsError(
                f"a results folder belongs to one sweep, got {out}, which holds {other!r}, for {spec.name!r}; "
                "give another --out"
            )
    elif any((out / "trials").glob("*.parquet")):  # towers that were evaluated alone may be there before a sweep
        raise ResultsError(f"a results folder with trials has its sweep.json, got {out} without; give another --out")
    results.write_sweep(out, spec.model_dump(mode="json"), trial_ids, provenance.collect())
