"""Ray's side of tuning: actors that hold packs, and the pool of them that trials lease slots from.

A Tune trial holds no device. It leases a slot in an actor that holds a pack of query towers on one, hears its epochs,
and has its tower scored by the evaluation pool while its slot serves the next trial. So every trial stays one of
Tune's, with its own reports, retries and place in a search; the device has a full pack while there are trials; and the
evaluation of one trial overlaps the tuning of others without anybody arranging it. The other way, a whole pack as one
Tune trial, would hide the members from Tune's searchers and retries, and let a slot stand empty until the last of its
pack is done.

An actor that is lost is started again by Ray; its trials fail with it, Tune tries each of them once more, and they go
on from their last saved state.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from dataclasses import replace
from typing import Any

import psutil
import ray
import torch

from adiabatic_ray.on_ray.devices import device_for, use_threads
from adiabatic_ray.on_ray.lobby import Lobby
from adiabatic_ray.on_ray.room import on_drivers_node
from adiabatic_ray.on_ray.shelf import Shelf
from adiabatic_ray.on_ray.tuner_pool import MaterialRefs, TunerPool
from adiabatic_ray.spec import ClusterSpec, TuningSpec
from adiabatic_ray.storage import Location
from adiabatic_ray.tuning.news import Tuned
from adiabatic_ray.tuning.pack_runner import Material, PackRunner

_SECONDS_TO_SAY_SO = 5.0
"""Time that an actor whose device failed leaves its trials to hear of it, before it makes way for a new process."""
_CALLS_BESIDE_MEMBERS = 64
"""Calls that an actor holds beside its pack: trials that wait for a slot, and those of packs that take turns."""


_MOST_TRIALS = 100_000
"""Calls that the lobby holds: trials that wait there must not keep an actor from registering."""


@ray.remote(max_restarts=-1, max_task_retries=0)
class Tuner:
    """Holds a pack on its device."""

    def __init__(self, number: int, lobby: str, cluster: ClusterSpec, folder: Location) -> None:
        use_threads(cluster.tuner_cpus)
        # By name: an actor with a handle among its arguments can't be relied on to start again.
        self._number, self._lobby, self._device = number, ray.get_actor(lobby), device_for(cluster.tuner_gpus)
        self._materials: Shelf[Material] = Shelf()
        self._gpu_share = cluster.tuner_gpus
        self._runner = PackRunner(cluster.pack_size, self._device, self._free_bytes, folder, cluster.checkpoint_every_s)
        start: Any = ray.get(self._lobby.register.remote(number))
        self._start = int(start)

    def tune(self, trial_id: str, spec: TuningSpec, refs: MaterialRefs) -> Any:
        """Yields what `PackRunner.tune` yields."""
        asked_at = time.monotonic()
        try:
            with self._materials.borrowed(refs.key, lambda: self._read(refs)) as material:
                load_s = time.monotonic() - asked_at
                for news in self._runner.tune(trial_id, spec, material):
                    yield replace(news, load_s=load_s) if isinstance(news, Tuned) else news
        except (ValueError, torch.OutOfMemoryError):
            raise
        except RuntimeError:
            if self._device != "cpu":  # after an error of its kernels a process can't use a GPU any more
                ray.get(self._lobby.lost.remote(self._number, self._start))
                threading.Timer(_SECONDS_TO_SAY_SO, os._exit, (1,)).start()
            raise

    def _read(self, refs: MaterialRefs) -> Material:
        backbone, (triplets, validation) = ray.get([refs.backbone_ref, refs.tuning_ref])
        held = triplets.held_on(self._device, self._free_bytes())
        return Material(refs.key, backbone, held, validation, refs.token_budget)

    def _free_bytes(self) -> int:
        if self._device == "cpu":
            return int(psutil.virtual_memory().available)
        free, total = torch.cuda.mem_get_info()
        mine = torch.cuda.memory_allocated()
        is_free = free + torch.cuda.memory_reserved() - mine
        return int(min(is_free, total * min(self._gpu_share, 1) - mine))  # the rest of the GPU is other actors'


def place_tuners(cluster: ClusterSpec, num_tuners: int, folder: Location) -> TunerPool:
    """Start the actors. Those for which a cluster has no room yet serve as soon as they are placed.

    Args:
        cluster: size of a pack, CPUs and GPUs of an actor, where they go.
        num_tuners: actors.
        folder: of the trials' saved states, shared by all nodes.
    """
    name = f"lobby-{uuid.uuid4().hex}"
    lobby = Lobby.options(name=name, scheduling_strategy=on_drivers_node(), max_concurrency=_MOST_TRIALS).remote()  # type: ignore[attr-defined]
    options = Tuner.options(  # type: ignore[attr-defined]
        num_cpus=cluster.tuner_cpus,
        num_gpus=cluster.tuner_gpus,
        max_concurrency=cluster.pack_size + _CALLS_BESIDE_MEMBERS,
        scheduling_strategy="SPREAD" if cluster.placement == "spread" else "DEFAULT",
    )
    actors = tuple(options.remote(n, name, cluster, folder) for n in range(num_tuners))
    return TunerPool(lobby, actors, cluster.wait_s)
