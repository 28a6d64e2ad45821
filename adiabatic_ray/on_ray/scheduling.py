"""Ray Tune's share: one Tune trial for each trial, which leases a tuner's slot, has its tower scored and is recorded.

A Tune trial reserves memory only, for its own process; tuners and evaluators hold CPUs and GPUs. So trials that wait
can never keep a pool from being placed, and one that is scored or recorded leaves its tuner to others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune

from adiabatic_ray import provenance, results
from adiabatic_ray.events import Listener
from adiabatic_ray.on_ray.callbacks import Announcer
from adiabatic_ray.on_ray.cluster import TRIAL_MEMORY_BYTES, trials_in_memory
from adiabatic_ray.on_ray.evaluation_pool import EvaluationPool
from adiabatic_ray.on_ray.scoring_desk import SharedSets
from adiabatic_ray.on_ray.tuner_pool import MaterialRefs, TunerPool
from adiabatic_ray.redaction import without_credentials
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import SweepSpec, TrialSpec
from adiabatic_ray.trial import Report, TrialContext, run_trial
from adiabatic_ray.tuning import saved_states
from adiabatic_ray.tuning.news import Tuned


@dataclass(frozen=True)
class Group:
    """What trials with the same backbone, source and evaluation sets share, as references into the object store."""

    material: MaterialRefs
    sets: SharedSets
    untuned_id: str
    untuned_ref: Any


def schedule(
    spec: SweepSpec,
    out: Path,
    pending: Mapping[str, TrialSpec],
    group_of: Mapping[str, str],
    groups: Mapping[str, Group],
    pool: EvaluationPool,
    tuners: TunerPool,
    listener: Listener,
) -> dict[str, TrialStatus]:
    """One Tune trial for each pending trial; those that fail for good are recorded as JSON."""
    cluster, recorded = spec.cluster, provenance.collect()
    trainable = ray_tune.with_parameters(
        _run_on_ray,
        trials={trial_id: trial.model_dump_json() for trial_id, trial in pending.items()},
        group_of=dict(group_of),
        groups=dict(groups),
        pools=(pool, tuners),
        common=(spec.name, str(out.resolve()), recorded),
    )
    # While trials fill every slot, others are scored and recorded: a quarter more is what keeps the slots full.
    num_slots = len(tuners.tuners) * cluster.pack_size
    in_flight = num_slots + -(-num_slots // 4)
    if (affordable := trials_in_memory()) < min(in_flight, len(pending)):
        listener.stage(f"memory for {affordable} trials at a time, {in_flight} would keep every slot busy")
    tuner = ray_tune.Tuner(
        ray_tune.with_resources(trainable, ray_tune.PlacementGroupFactory([{"memory": TRIAL_MEMORY_BYTES}])),
        param_space={"trial_id": ray_tune.grid_search(list(pending))},
        tune_config=ray_tune.TuneConfig(
            max_concurrent_trials=cluster.max_concurrent_trials or in_flight,
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
                "error": without_credentials(str(result.error)),
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
    groups: Mapping[str, Group],
    pools: tuple[EvaluationPool, TunerPool],
    common: tuple[str, str, dict[str, Any]],
) -> None:
    """The Tune trainable: joins `run_trial` to the pools."""
    trial_id, (pool, tuners), (sweep, out, recorded) = config["trial_id"], pools, common
    group = groups[group_of[trial_id]]
    untuned = ray.get(group.untuned_ref)

    def tune(trial: TrialSpec, report: Report) -> Tuned:
        return tuners.tune(trial_id, trial.tuning, group.material, report, lambda text: _report({"notice": text}))

    status = run_trial(
        TrialSpec.model_validate_json(trials[trial_id]),
        TrialContext(sweep, Path(out), group.untuned_id, untuned, recorded),
        tune,
        lambda changed: pool.score(changed, group.sets),
        lambda epoch: _report(asdict(epoch)),
    )
    saved_states.remove_state(Path(out) / "states", trial_id)
    _report({"status": status.value})


def _report(metrics: dict[str, Any]) -> None:
    ray_tune.report(metrics)


def _name_of(trial: Any) -> str:
    return str(trial.config["trial_id"])
