"""Ray Tune's share: one Tune trial for each trial, which leases a tuner's slot, has its tower scored and is recorded.

A Tune trial reserves memory only, for its own process; tuners and evaluators hold CPUs and GPUs. So trials that wait
can never keep a pool from being placed, and one that is scored or recorded leaves its tuner to others.
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray import tune as ray_tune
from ray.tune.logger import JsonLoggerCallback

from adiabatic_ray import provenance, results
from adiabatic_ray.events import Listener
from adiabatic_ray.on_ray.callbacks import Announcer
from adiabatic_ray.on_ray.evaluation_pool import EvaluationPool
from adiabatic_ray.on_ray.one_driver import check_shared
from adiabatic_ray.on_ray.room import TRIAL_MEMORY_BYTES, wait_for_memory
from adiabatic_ray.on_ray.scoring_desk import SharedSets
from adiabatic_ray.on_ray.searcher import TrialSearcher
from adiabatic_ray.on_ray.tuner_pool import MaterialRefs, TunerPool
from adiabatic_ray.redaction import without_credentials
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import SweepSpec, TrialSpec
from adiabatic_ray.storage import Location
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
    bank_s: float
    """Seconds that its banks took to be there."""


@dataclass(frozen=True)
class Queue:
    """The trials of a sweep, known beforehand or chosen on the way."""

    configs: tuple[dict[str, Any], ...]
    """Tune's configuration of each pending trial (`trial_config`); empty where a searcher chooses."""
    searcher: TrialSearcher | None
    num_trials: int
    """To run; of a search the most."""


def trial_config(trial: TrialSpec, group: str) -> dict[str, Any]:
    """What Tune hands to a trial: which one it is, and the key of its group."""
    return {"trial_id": trial.trial_id, "spec": trial.model_dump_json(), "group": group}


def schedule(
    spec: SweepSpec,
    out: Location,
    queue: Queue,
    groups: Mapping[str, Group],
    pool: EvaluationPool,
    tuners: TunerPool,
    driver: str,
    listener: Listener,
) -> dict[str, TrialStatus]:
    """One Tune trial for each trial; those that fail for good are recorded as JSON.

    Args:
        spec: the sweep.
        out: results folder.
        queue: what is to be run.
        groups: by the keys that the queue's configurations name.
        pool: scores towers.
        tuners: tune them.
        driver: see `one_driver.only_driver`.
        listener: hears of the trials.

    Raises:
        ValueError: no node has memory for a trial's process.
        KeyboardInterrupt: stopped by ctrl-C.
    """
    cluster, recorded = spec.cluster, provenance.collect()
    trainable = ray_tune.with_parameters(
        _run_on_ray,
        groups=dict(groups),
        pools=(pool, tuners),
        common=(spec.name, out.resolve(), driver, recorded),
    )
    # While trials fill every slot, others are scored and recorded: a quarter more is what keeps the slots full.
    num_slots = len(tuners.tuners) * cluster.pack_size
    in_flight = num_slots + -(-num_slots // 4)
    if (affordable := wait_for_memory(cluster, listener)) < min(in_flight, queue.num_trials):
        listener.stage(f"memory for {affordable} trials at a time, {in_flight} would keep every slot busy")
    # Tune's own records end with the run: nothing reads them again, and a full results disk must not cost the reasons.
    # Tune may still copy into it when a run is cut short.
    with tempfile.TemporaryDirectory(prefix="adiabatic-tune-", ignore_cleanup_errors=True) as records:
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(trainable, ray_tune.PlacementGroupFactory([{"memory": TRIAL_MEMORY_BYTES}])),
            param_space={} if queue.searcher else {"trial": ray_tune.grid_search(list(queue.configs))},
            tune_config=ray_tune.TuneConfig(
                search_alg=queue.searcher,
                num_samples=-1 if queue.searcher else 1,  # as many as the searcher says
                max_concurrent_trials=cluster.max_concurrent_trials or in_flight,
                trial_name_creator=_name_of,
                trial_dirname_creator=_name_of,
                reuse_actors=True,
            ),
            run_config=ray_tune.RunConfig(
                name="tune",
                storage_path=records,
                failure_config=ray_tune.FailureConfig(max_failures=cluster.max_failures),
                # Tune reads its JSON back when all is over.
                callbacks=[Announcer(listener), JsonLoggerCallback()],  # type: ignore[no-untyped-call]
                verbose=0,
            ),
        )
        with _same_signal_handlers():
            grid = tuner.fit()
    statuses: dict[str, TrialStatus] = {}
    finished = results.finished_trials(out)
    for place in range(len(grid)):
        result = grid[place]
        trial_id = (result.config or {}).get("trial", {}).get("trial_id")
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
    is_whole = queue.searcher.is_over if queue.searcher else len(statuses) == len(queue.configs)
    if not is_whole or len(statuses) < len(grid):
        raise KeyboardInterrupt  # Tune ends quietly at ctrl-C, with trials that neither finished nor failed
    return statuses


@contextmanager
def _same_signal_handlers() -> Iterator[None]:
    """Tune leaves its own behind: the first ctrl-C after a sweep, while its report is written, would do nothing."""
    is_main = threading.current_thread() is threading.main_thread()  # elsewhere Tune sets none, and nobody may
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGUSR1)} if is_main else {}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _run_on_ray(
    config: dict[str, Any],
    *,
    groups: Mapping[str, Group],
    pools: tuple[EvaluationPool, TunerPool],
    common: tuple[str, Location, str, dict[str, Any]],
) -> None:
    """The Tune trainable: joins `run_trial` to the pools."""
    (pool, tuners), (sweep, out, driver, recorded) = pools, common
    check_shared(out, driver)
    trial_id = config["trial"]["trial_id"]
    if status := results.status_of(out, trial_id):  # an earlier attempt wrote its row, and was lost before Tune heard
        saved_states.remove_state(out / "states", trial_id)
        _report({"status": status.value})
        return
    group = groups[config["trial"]["group"]]
    untuned = ray.get(group.untuned_ref)

    def tune(trial: TrialSpec, report: Report) -> Tuned:
        return tuners.tune(trial_id, trial.tuning, group.material, report, lambda text: _report({"notice": text}))

    status = run_trial(
        TrialSpec.model_validate_json(config["trial"]["spec"]),
        TrialContext(sweep, out, group.untuned_id, untuned, group.bank_s, recorded),
        tune,
        lambda changed: pool.score(changed, group.sets),
        lambda epoch: _report(asdict(epoch)),
    )
    saved_states.remove_state(out / "states", trial_id)
    _report({"status": status.value})


def _report(metrics: dict[str, Any]) -> None:
    ray_tune.report(metrics)


def _name_of(trial: Any) -> str:
    return str(trial.config["trial"]["trial_id"])
