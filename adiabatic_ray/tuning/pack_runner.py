"""Runs packs for trials that come and go: each asks from its own thread and hears its own epochs.

One thread steps the pack; between two epochs whoever stopped leaves and whoever waits joins. The pack grows with those
who wait, up to `pack_size`, and shrinks when half of its slots would compute for nobody. Trials that can't share a pack
(another backbone, data, batch size or epoch) take turns: the kind that runs goes on while there are trials of it.

What can go wrong belongs to whoever it concerns. A trial that can't be tuned hears its own error. A pack for which a
GPU's memory is too small, whatever the estimate said, is halved, its members going on from where they were last saved.
Any other error ends every member's call with it; they may ask again, and go on from where they were last saved.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.step_rules import is_import_path
from adiabatic_ray.storage import Location
from adiabatic_ray.tuning import saved_states
from adiabatic_ray.tuning.news import EpochReport, News, Notice, ReplacedError, Trained
from adiabatic_ray.tuning.pack import Pack, packs_alone
from adiabatic_ray.tuning.pack_memory import member_bytes, weight_bytes
from adiabatic_ray.tuning.saved_states import MemberState
from adiabatic_ray.tuning.tune import tuned_names, tuned_of
from adiabatic_ray.tuning.tuning_data import TuningTriplets


@dataclass(frozen=True)
class Material:
    """What the trials of a group are tuned from."""

    key: str
    """Trials with the same key have the same material."""
    backbone: Backbone
    triplets: TuningTriplets
    validation: TuningTriplets
    token_budget: int


@dataclass(eq=False)
class _Request:
    trial_id: str
    spec: TuningSpec
    material: Material
    trainable: Sequence[str]
    news: queue.SimpleQueue[EpochReport | Notice | Trained | Exception]
    state: MemberState | None = None
    """Where a member was taken out of a pack; let go once it has joined another one."""
    is_abandoned: bool = False
    """Nobody listens any more."""
    asked_at: float = field(default_factory=time.monotonic)
    queue_s: float = 0.0

    @property
    def kind(self) -> tuple[object, ...]:
        """Who may share a pack. Word embeddings dwarf the rest: they are stacked only for those who train them.

        A user's own code may fail at any step, and takes its pack with it: it has one for itself.
        """
        spec, tables = self.spec, any(name.endswith("word_embeddings.weight") for name in self.trainable)
        alone = self.trial_id if is_import_path(spec.optimizer) or is_import_path(spec.schedule) else ""
        return self.material.key, spec.batch_size, spec.batches_per_epoch, spec.dropout, tables, alone


class PackRunner:
    """Holds a pack, and the trials that wait for a slot; see the file head."""

    def __init__(
        self,
        pack_size: int,
        device: str = "cpu",
        free_bytes: Callable[[], int] | None = None,
        folder: Location | None = None,
        save_every_s: float = 300.0,
    ) -> None:
        """Start without members.

        Args:
            pack_size: most trials in a pack.
            device: where it is held.
            free_bytes: memory that packs may take; None: not looked at.
            folder: of the saved states; None: nothing is saved.
            save_every_s: seconds between two savings of all members, at the end of an epoch.
        """
        self._pack_size, self._device, self._free_bytes = pack_size, device, free_bytes
        self._folder, self._save_every_s, self._saved_at = folder, save_every_s, time.monotonic()
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._active: dict[str, _Request] = {}
        self._pack: Pack | None = None
        self._limit = pack_size
        self._attempted = self._proven = 0
        """Slots of the pack that was asked for last, and of the one that last ran an epoch."""
        self._told: set[str] = set()
        threading.Thread(target=self._run, name="pack", daemon=True).start()

    def tune(self, trial_id: str, spec: TuningSpec, material: Material) -> Iterator[News]:
        """Tune a trial beside others.

        Args:
            trial_id: names its saved state. A trial that asks again takes the place of its earlier call.
            spec: the regime.
            material: what it is tuned from.

        Yields:
            Reports of its epochs; at last its tower. After an interruption reports come again, from epoch 0 on: each
            takes the place of what was heard about its epoch and later ones.

        Raises:
            ValueError: as `tuned_names`, `Pack` and `Pack.join`.
            ReplacedError: the trial asked again.
            RuntimeError: the device failed, or whatever else ended the pack.
        """
        trainable = tuned_names(material.backbone, spec)
        request = _Request(trial_id, spec, material, trainable, queue.SimpleQueue())
        with self._changed:
            for earlier in [one for one in self._waiting if one.trial_id == trial_id]:
                self._waiting.remove(earlier)
                earlier.news.put(_replaced(trial_id))
            self._waiting.append(request)
            self._changed.notify()
        try:
            while True:
                news = request.news.get()
                if isinstance(news, Exception):
                    raise news
                if isinstance(news, Trained):
                    yield tuned_of(material.backbone, spec, news)  # here, not in the thread that steps the pack
                    return
                yield news
        finally:
            with self._changed:
                request.is_abandoned = True
                if request in self._waiting:
                    self._waiting.remove(request)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._active)
            error = self._error_of_turn()
            if error is not None:
                self._recover(error)

    def _error_of_turn(self) -> Exception | None:
        try:
            self._take_turn()
        except Exception as error:
            return error.with_traceback(None)  # its frames hold the pack
        return None

    def _take_turn(self) -> None:
        """An epoch of all who have a slot, once those joined who can."""
        pack = self._arrange()
        if pack is not None and self._active:
            self._tell(pack, pack.run_epoch())
            self._proven = pack.num_slots
            self._save_when_due(pack)

    def _arrange(self) -> Pack | None:
        """Let those leave to whom nobody listens, and those join who can."""
        with self._changed:
            waiting = list(self._waiting)
        again = {request.trial_id for request in waiting}
        for trial_id, request in list(self._active.items()):
            if request.is_abandoned or trial_id in again:
                assert self._pack is not None
                self._pack.leave(trial_id)
                del self._active[trial_id]
                request.news.put(_replaced(trial_id))
        running = list(self._active.values())
        if not running:
            self._drop_pack()
        if not running and not waiting:
            return None
        kind = (running or waiting)[0].kind
        alike = [request for request in waiting if request.kind == kind]
        joining = alike[: self._most_slots(running, alike) - len(running)]
        try:
            pack = self._sized(running, joining)
        except ValueError as error:
            self._refuse(joining, error)
            return None
        for request in joining:
            self._join(pack, request)
        self._tell(pack, pack.start())
        return pack

    def _most_slots(self, running: list[_Request], alike: list[_Request]) -> int:
        """Slots that a pack of these may have."""
        everyone = [*running, *alike]
        first = everyone[0]
        backbone, spec = first.material.backbone, first.spec
        most = min(self._limit, 1 if packs_alone(backbone, spec) else self._pack_size)
        if self._free_bytes is None or most == 1 or not alike:
            return most
        held = 0 if self._pack is None else self._pack.num_slots
        tokens = int(np.sort(first.material.triplets.queries.lengths())[-spec.batch_size :].sum())
        costliest = max((request.spec for request in everyone), key=weight_bytes)
        each_bytes = member_bytes(backbone, _union(everyone), tokens, costliest)
        # One trial is tried in any case: the estimate is no reason to refuse it.
        fitting = max(1, held + self._free_bytes() // each_bytes)
        if fitting < min(most, len(everyone)):
            each_gb = each_bytes / 1e9
            self._notify(first, f"a trial in a pack needs about {each_gb:.1f} GB: {fitting} are tuned at a time")
        return min(most, fitting)

    def _sized(self, running: list[_Request], joining: list[_Request]) -> Pack:
        """A pack with room for these: the one at hand, or another one to which its members move."""
        everyone = [*running, *joining]
        trainable = _union(everyone)
        pack = self._pack
        if pack is not None:
            if len(everyone) <= pack.num_slots < 2 * len(everyone) and trainable <= pack.trainable:
                return pack
            for request in running:
                request.state = pack.members[request.trial_id].state()
            del pack
            self._drop_pack()  # its memory first
        first = everyone[0]
        material = first.material
        self._attempted = len(everyone)
        self._pack = Pack(
            material.backbone,
            sorted(trainable),
            first.spec,
            len(everyone),
            material.triplets,
            material.validation,
            material.token_budget,
            self._device,
        )
        for request in running:
            self._pack.join(request.trial_id, request.spec, request.trainable, request.state)
            request.state = None
        return self._pack

    def _join(self, pack: Pack, request: _Request) -> None:
        state = request.state or self._saved(request.trial_id)
        try:
            reports = pack.join(request.trial_id, request.spec, request.trainable, state)
        except ValueError as error:
            self._refuse([request], error)
            return
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)
        request.state = None
        request.queue_s += time.monotonic() - request.asked_at
        self._active[request.trial_id] = request
        for report in reports:
            request.news.put(report)

    def _refuse(self, requests: list[_Request], error: Exception) -> None:
        with self._changed:
            self._waiting = [one for one in self._waiting if one not in requests]
        for request in requests:
            request.news.put(error)

    def _tell(self, pack: Pack, reports: Mapping[str, EpochReport]) -> None:
        for trial_id, report in reports.items():
            request = self._active[trial_id]
            request.news.put(report)
            if report.stopped_by is not None:
                trained = pack.leave(trial_id)
                del self._active[trial_id]
                request.news.put(replace(trained, queue_s=request.queue_s))

    def _save_when_due(self, pack: Pack) -> None:
        if self._folder is None or time.monotonic() - self._saved_at < self._save_every_s:
            return
        for trial_id, request in self._active.items():
            if request.spec.dropout:  # its random numbers would not go on where they were
                continue
            try:
                saved_states.save_state(self._folder, trial_id, pack.members[trial_id].state())
            except OSError as error:
                self._notify(request, f"states can't be saved, a lost process would cost its trials' tuning: {error}")
        self._saved_at = time.monotonic()

    def _saved(self, trial_id: str) -> MemberState | None:
        return None if self._folder is None else saved_states.load_state(self._folder, trial_id)

    def _notify(self, request: _Request, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            request.news.put(Notice(text))

    def _recover(self, error: Exception) -> None:
        """Go on with half as many slots where memory was short, else hand the error to whoever it concerns."""
        members = list(self._active.values())
        self._active = {}
        self._drop_pack()
        if isinstance(error, torch.OutOfMemoryError) and self._attempted > 1:
            smaller = self._proven if self._proven < self._attempted else 0
            self._limit = max(self._attempted // 2, smaller)
            for request in members:
                request.asked_at = time.monotonic()
            with self._changed:
                self._waiting = [*members, *self._waiting]
                first = self._waiting[0]
            text = f"a pack of {self._attempted} did not fit the memory: from now on {self._limit} at a time"
            self._notify(first, text)
            return
        with self._changed:
            concerned = members or list(self._waiting)
        self._refuse(concerned, error)

    def _drop_pack(self) -> None:
        self._pack = None
        gc.collect()  # modules refer to themselves: without it their memory would still be taken when the next is built


def _union(requests: list[_Request]) -> set[str]:
    return {name for request in requests for name in request.trainable}


def _replaced(trial_id: str) -> ReplacedError:
    return ReplacedError(f"{trial_id} asked again: that call goes on in place of this one")
