"""The cluster: connecting to one, and whether what a sweep asks for fits it."""

from __future__ import annotations

import logging
import os

import ray
from ray.exceptions import RayError

from adiabatic_ray.events import StageListener
from adiabatic_ray.on_ray.room import TRIAL_MEMORY_BYTES, trials_in_memory
from adiabatic_ray.spec import ClusterSpec

WORKER_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""Tune runs each trial of a reused process in a new thread, and glibc gives threads heaps of their own that it does not
give back: a process grew from 1.8 to 5.5 GB in 8 trials. With one heap it stays where the first trial left it."""


def check_resources(cluster: ClusterSpec, listener: StageListener) -> None:
    """Refuse pools that leave no room for a tuner: on this machine it would be waited for, for ever.

    A cluster that was connected to may grow: an autoscaler starts nodes only once something waits for them.

    Raises:
        ValueError: the evaluation pool and one tuner ask for more CPUs or GPUs than this machine has, or its memory is
            too small for the process of a trial.
    """
    if trials_in_memory() < 1 and not os.environ.get("RAY_ADDRESS"):
        raise ValueError(
            f"a trial's process needs {TRIAL_MEMORY_BYTES / 1e9:.1f} GB, got a machine with less to spare; "
            "end other programs, or use a larger machine"
        )
    for name, available, per_evaluator, per_tuner in _shares(cluster):
        needed = cluster.evaluators * per_evaluator + per_tuner
        if needed > available and os.environ.get("RAY_ADDRESS"):
            listener.stage(f"the cluster has {available:g} of {needed:g} {name}s: waiting for nodes to join")
        elif needed > available:
            raise ValueError(
                f"the evaluation pool and one tuner must fit the cluster, got {cluster.evaluators} x {per_evaluator:g} "
                f"+ {per_tuner:g} {name}s for {available:g}; lower cluster.evaluators, "
                f"cluster.evaluator_{name.lower()}s "
                f"(0 lets them use what a waiting tuner leaves idle) or cluster.tuner_{name.lower()}s"
            )


def _shares(cluster: ClusterSpec) -> tuple[tuple[str, float, float, float], ...]:
    """Resource, what the cluster has, what an evaluator takes, what a tuner takes."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return (
        ("CPU", total.get("CPU", 0), cluster.evaluator_cpus, cluster.tuner_cpus),
        ("GPU", total.get("GPU", 0), cluster.evaluator_gpus, cluster.tuner_gpus),
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
