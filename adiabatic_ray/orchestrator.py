"""Runs a sweep: pin, build the banks, place the evaluation pool, let Ray Tune schedule the trials that are missing.

Ray is a shell around `trial.run_trial`. The order of the steps is what keeps a cluster from locking up: banks are built
by tasks that end, then the evaluation pool is placed, and only then do trials take what is left. A trial that is
finished on disk is never run again, so running the same command again resumes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune as ray_tune
from ray.exceptions import RayError

from adiabatic_ray import counts, provenance, results
from adiabatic_ray.actors import EvaluationPool, SharedSets, device_for, ensure_banks, use_threads
from adiabatic_ray.callbacks import Announcer
from adiabatic_ray.counts import Counts
from adiabatic_ray.events import Listener, StageListener
from adiabatic_ray.prepare import EvaluationInputs, Inputs, Loader, prepare
from adiabatic_ray.results import ResultsError, TrialStatus
from adiabatic_ray.spec import ClusterSpec, SweepSpec, TrialSpec, UntunedSpec
from adiabatic_ray.trial import TrialContext, run_trial, trainable_names
from adiabatic_ray.tune import EpochReport

WORKER_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""Tune runs each trial of a reused process in a new thread, and glibc gives threads heaps of their own that it does not
give back: a process grew from 1.8 to 5.5 GB in 8 trials. With one heap it stays where the first trial left it."""


@dataclass(frozen=True)
class SweepOutcome:
    """How a run of a sweep ended, counted in trials."""

    num_trials: int
    num_finished_before: int
    statuses: Mapping[str, TrialStatus]
    """Trials of this run: id -> terminal state."""


@dataclass(frozen=True)
class _Group:
    """What trials with the same backbone, source and evaluation sets share, as references into the object store."""

    backbone_ref: Any
    tuning_ref: Any
    sets: SharedSets
    untuned_id: str
    untuned_ref: Any


def pin_trials(spec: SweepSpec, loader: Loader) -> list[TrialSpec]:
    """The sweep's trials with digests filled in, checked as far as that is possible without running them.

    Raises:
        ValueError: data or weights that cannot be loaded, two trials of the same content, a freeze plan that matches
            nothing or leaves nothing to train, fewer samples than one batch, no validation samples.
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
    return trials


def run_sweep(spec: SweepSpec, out: Path, banks: Path, listener: Listener) -> SweepOutcome:
    """Run every trial of a sweep that is not finished yet.

    Ray must be initialised: locally, or connected to a cluster.

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
    listener.stage("reading backbone and texts")
    loader = Loader()
    trials = {trial.trial_id: trial for trial in pin_trials(spec, loader)}
    _record_sweep(spec, out, list(trials))
    done = results.finished_trials(out)
    if others := len(done.keys() - trials.keys()):
        listener.stage(
            f"{others} finished trials in {out} are not of this sweep as it is now; its report leaves them out"
        )
    pending = {trial_id: trial for trial_id, trial in trials.items() if trial_id not in done}
    num_before = len(trials) - len(pending)
    if not pending:
        listener.sweep_started(len(trials), num_before)
        return SweepOutcome(len(trials), num_before, {})
    check_resources(spec.cluster, listener)
    group_of = {trial_id: _group_key(trial) for trial_id, trial in pending.items()}
    shared = {}
    for trial_id, key in group_of.items():
        if key not in shared:
            parts = _share(loader.load(pending[trial_id]), banks, spec.cluster, listener)
            shared[key] = untuned_id_of(pending[trial_id].untuned, spec.cluster), *parts
    listener.stage("placing the evaluation pool")
    pool = EvaluationPool.place(spec.cluster)
    try:
        listener.stage("scoring the untuned backbone")
        groups = {key: _group(*parts, pool, out) for key, parts in shared.items()}
        listener.sweep_started(len(trials), num_before)
        statuses = _schedule(spec, out, pending, group_of, groups, pool, listener)
    finally:
        pool.close()
    return SweepOutcome(len(trials), num_before, statuses)


def _share(inputs: Inputs, banks: Path, cluster: ClusterSpec, listener: Listener) -> tuple[Any, Any, SharedSets]:
    """Put a group's backbone, triplets and evaluation sets into the object store; build missing banks."""
    backbone_ref = ray.put(inputs.backbone)
    kit = prepare(inputs, open_banks(inputs, backbone_ref, banks, cluster, listener))
    sets = SharedSets.put(backbone_ref, kit.evaluation, inputs.token_budget)
    return backbone_ref, ray.put((kit.tuning, kit.validation)), sets


def open_banks(
    inputs: EvaluationInputs, backbone_ref: Any, banks: Path, cluster: ClusterSpec, listener: StageListener
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
        lambda done, total: listener.counted("passages", done, total),
    )
    return [np.asarray(bank_PD) for bank_PD in opened]


def _group(
    untuned_id: str, backbone_ref: Any, tuning_ref: Any, sets: SharedSets, pool: EvaluationPool, out: Path
) -> _Group:
    untuned = untuned_counts(untuned_id, lambda: pool.score({}, sets), out)
    return _Group(backbone_ref, tuning_ref, sets, untuned_id, ray.put(untuned))


def untuned_counts(untuned_id: str, score: Callable[[], list[Counts]], out: Path) -> list[Counts]:
    """Counts of an untuned backbone: from the results folder when they are there, else scored and kept there.

    Raises:
        ResultsError: a table of another schema version.
        OSError: the folder cannot be written.
    """
    if not results.table_path(out, "untuned", untuned_id).is_file():
        results.write_table(out, "untuned", untuned_id, counts.untuned_rows(untuned_id, score()))
    return counts.counts_from_rows(results.read_table(out, "untuned", [untuned_id]).to_pylist())


def _schedule(
    spec: SweepSpec,
    out: Path,
    pending: Mapping[str, TrialSpec],
    group_of: Mapping[str, str],
    groups: Mapping[str, _Group],
    pool: EvaluationPool,
    listener: Listener,
) -> dict[str, TrialStatus]:
    """One Tune trial for each pending trial; those that fail for good are recorded as JSON."""
    cluster, recorded = spec.cluster, provenance.collect()
    trainable = ray_tune.with_parameters(
        _run_on_ray,
        trials={trial_id: trial.model_dump_json() for trial_id, trial in pending.items()},
        group_of=dict(group_of),
        groups=dict(groups),
        pool=pool,
        common=(spec.name, str(out.resolve()), recorded, cluster.trial_cpus, device_for(cluster.trial_gpus)),
    )
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(trainable, {"cpu": cluster.trial_cpus, "gpu": cluster.trial_gpus}),
        param_space={"trial_id": ray_tune.grid_search(list(pending))},
        tune_config=ray_tune.TuneConfig(
            max_concurrent_trials=cluster.max_concurrent_trials,
            trial_name_creator=_name_of,
            trial_dirname_creator=_name_of,
            reuse_actors=True,
        ),
        run_config=ray_tune.RunConfig(
            name="tune",
            storage_path=str(out.resolve() / "ray"),
            failure_config=ray_tune.FailureConfig(max_failures=cluster.max_failures),
            callbacks=[Announcer(listener)],
            verbose=0,
        ),
    )
    grid = tuner.fit()
    statuses: dict[str, TrialStatus] = {}
    finished = results.finished_trials(out)
    for place in range(len(grid)):
        result = grid[place]
        trial_id = (result.config or {}).get("trial_id")
        if trial_id is None:
            continue  # interrupted before it ever started
        if trial_id in finished:
            statuses[trial_id] = finished[trial_id]
        elif result.error is not None:
            statuses[trial_id] = TrialStatus.FAILED
            report = {
                "trial_id": trial_id,
                "status": "FAILED",
                "error": str(result.error),
                "provenance": dict(recorded),
            }
            results.write_json(out / "failures" / f"{trial_id}.json", report)
            listener.trial_finished(trial_id, TrialStatus.FAILED)
    if len(statuses) < len(pending):
        raise KeyboardInterrupt  # Tune ends quietly at ctrl-C, with trials that neither finished nor failed
    return statuses


def _run_on_ray(
    config: dict[str, Any],
    *,
    trials: Mapping[str, str],
    group_of: Mapping[str, str],
    groups: Mapping[str, _Group],
    pool: EvaluationPool,
    common: tuple[str, str, dict[str, Any], float, str],
) -> None:
    """The Tune trainable: fetches what the group shares and delegates to `run_trial`."""
    trial_id = config["trial_id"]
    sweep, out, recorded, num_cpus, device = common
    use_threads(num_cpus)
    group = groups[group_of[trial_id]]
    backbone, (triplets, validation), untuned = ray.get([group.backbone_ref, group.tuning_ref, group.untuned_ref])
    context = TrialContext(sweep, Path(out), group.untuned_id, untuned, recorded)

    def report(epoch: EpochReport) -> None:
        ray_tune.report(asdict(epoch))

    status = run_trial(
        TrialSpec.model_validate_json(trials[trial_id]),
        context,
        backbone,
        triplets,
        validation,
        lambda changed: pool.score(changed, group.sets),
        report,
        device,
    )
    ray_tune.report({"status": status.value})


def _name_of(trial: Any) -> str:
    return str(trial.config["trial_id"])


def _group_key(trial: TrialSpec) -> str:
    """Hash of what the trials of a group share: all but how they are tuned."""
    shared = trial.model_copy(update={"tuning": type(trial.tuning)()})
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


def _record_sweep(spec: SweepSpec, out: Path, trial_ids: Sequence[str]) -> None:
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


def check_resources(cluster: ClusterSpec, listener: StageListener) -> None:
    """Refuse a pool that would leave no room for a trial or a bank task: on this machine it would wait for ever.

    A cluster that was connected to may grow: an autoscaler starts nodes only once something waits for them.

    Raises:
        ValueError: the evaluation pool and one trial ask for more CPUs or GPUs than this machine has.
    """
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, per_evaluator, per_trial in (
        ("CPU", cluster.evaluator_cpus, cluster.trial_cpus),
        ("GPU", cluster.evaluator_gpus, cluster.trial_gpus),
    ):
        needed, available = cluster.evaluators * per_evaluator + per_trial, total.get(name, 0)
        if needed > available and os.environ.get("RAY_ADDRESS"):
            listener.stage(f"the cluster has {available:g} of {needed:g} {name}s: waiting for nodes to join")
        elif needed > available:
            raise ValueError(
                f"the evaluation pool and one trial must fit the cluster, got {cluster.evaluators} x {per_evaluator:g} "
                f"+ {per_trial:g} {name}s for {available:g}; lower cluster.evaluators, "
                f"cluster.evaluator_{name.lower()}s "
                f"(0 lets them use what a waiting trial leaves idle) or cluster.trial_{name.lower()}s"
            )


def start_ray() -> None:
    """Connect to the cluster that RAY_ADDRESS names (as in a submitted job), or start one on this machine.

    Raises:
        ValueError: no cluster answers there, or it refuses this client's token.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(
            address=None if address else "local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": WORKER_ENVIRONMENT},
        )
    except (ConnectionError, RuntimeError, RayError) as error:
        raise ValueError(
            f"a Ray cluster must answer and accept this client's token, got {type(error).__name__} at RAY_ADDRESS="
            f"{address or '(unset: a local one)'}: {error}; see `ray status`, and set RAY_AUTH_MODE and the token as "
            "on the cluster"
        ) from error
