"""Runs packs for trials that come and go: each asks from its own thread and hears its own epochs.

One thread steps the pack; between two epochs whoever stopped leaves and whoever waits joins. The pack grows with those
who wait, up to `pack_size`, and shrinks when half of its slots would compute for nobody. Trials that can't share a pack
(another backbone, data, batch size or epoch) take turns, in the order in which they came.

What can go wrong belongs to whoever it concerns. A trial that can't be tuned hears its own error. A pack that turns out
too large for the memory is halved, its members going on from where they were last saved. Any other error ends every
member's call with it; they may ask again, and go on from where they were last saved.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from adiabatic_ray import saved_states
from adiabatic_ray.backbones import Backbone
from adiabatic_ray.member import EpochReport, MemberState
from adiabatic_ray.pack import Pack, packs_alone
from adiabatic_ray.pack_memory import member_bytes, slots_that_fit
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tune import Tuned, peak_memory_bytes, trainable_names
from adiabatic_ray.tuning_data import TuningTriplets


@dataclass(frozen=True)
class Material:
    """What the trials of a group are tuned from."""

    key: str
    """Trials with the same key have the same material."""
    backbone: Backbone
    triplets: TuningTriplets
    validation: TuningTriplets
    token_budget: int


@dataclass(frozen=True)
class Notice:
    """Something that a user should know about how a trial is run."""

    text: str


News = EpochReport | Notice | Tuned
"""What a trial hears: its epochs, and at the end its tower."""


@dataclass(frozen=True, eq=False)
class _Request:
    trial_id: str
    spec: TuningSpec
    material: Material
    news: queue.SimpleQueue[News | BaseException]
    state: MemberState | None

    @property
    def trainable(self) -> list[str]:
        return trainable_names(self.material.backbone, self.spec.freeze)[0]

    @property
    def pack_key(self) -> tuple[object, ...]:
        """Who may share a pack. Word embeddings dwarf the rest: they are stacked only for those who train them."""
        spec, tables = self.spec, any(name.endswith("word_embeddings.weight") for name in self.trainable)
        return self.material.key, spec.batch_size, spec.batches_per_epoch, spec.dropout, tables


class PackRunner:
    """Holds a pack, and the trials that wait for a slot; see the file head."""

    def __init__(
        self,
        pack_size: int,
        device: str = "cpu",
        free_bytes: Callable[[], int] | None = None,
        folder: Path | None = None,
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
        threading.Thread(target=self._run, name="pack", daemon=True).start()

    def tune(self, trial_id: str, spec: TuningSpec, material: Material) -> Iterator[News]:
        """Tune a trial beside others.

        Args:
            trial_id: names its saved state. A trial that asks again takes the place of its earlier call.
            spec: the regime.
            material: what it is tuned from.

        Yields:
            Reports of its epochs; at last its tower. After an interruption reports come again, from epoch 0
            on: a report takes the place of what was heard about its epoch and later ones.

        Raises:
            ValueError: as `Pack` and `Pack.join`.
            RuntimeError: the device failed, or whatever else ended the pack.
        """
        request = _Request(trial_id, spec, material, queue.SimpleQueue(), self._saved(trial_id))
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        while True:
            news = request.news.get()
            if isinstance(news, BaseException):
                raise news
            yield news
            if isinstance(news, Tuned):
                return

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._active)
            try:
                self._take_turn()
            except torch.OutOfMemoryError as error:
                self._halve(error)
            except Exception as error:  # of the device, or a disk: each trial decides what comes next
                self._end_all(error)

    def _take_turn(self) -> None:
        """An epoch of all who have a slot, once those joined who can. No pack is held here between two turns."""
        pack = self._arrange()
        if self._active:
            self._tell(pack, pack.run_epoch())
            self._save_when_due(pack)

    def _arrange(self) -> Pack:
        """Let those join who can: of the kind that is running, or of the first one's when nobody is left."""
        with self._changed:
            waiting = list(self._waiting)
        for request in waiting:
            if self._active.pop(request.trial_id, None):  # asked again: nobody listens to the earlier call
                assert self._pack is not None
                self._pack.leave(request.trial_id)
        running = list(self._active.values())
        first = (running or waiting)[0]
        alike = [request for request in waiting if request.pack_key == first.pack_key]
        joining = alike[: self._most_slots(first, len(running) + len(alike)) - len(running)]
        pack = self._sized(running, joining)
        for request in joining:
            self._join(pack, request)
            with self._changed:
                self._waiting.remove(request)
        return pack

    def _most_slots(self, first: _Request, num_asking: int) -> int:
        """Slots that a pack of this kind may have."""
        backbone, spec = first.material.backbone, first.spec
        most = 1 if packs_alone(backbone, spec) else self._pack_size
        if self._free_bytes is None:
            return min(most, self._limit)
        held = 0 if self._pack is None else self._pack.num_slots
        tokens = int(np.sort(first.material.triplets.queries.lengths())[-spec.batch_size :].sum())
        # One trial is tried in any case: the estimate is no reason to refuse it.
        fitting = max(1, held + slots_that_fit(backbone, first.trainable, tokens, self._free_bytes()))
        if fitting < min(most, self._limit, num_asking):
            each = member_bytes(backbone, first.trainable, tokens)
            first.news.put(
                Notice(
                    f"a trial in a pack needs about {each / 1e9:.1f} GB: {fitting} of {num_asking} are tuned at a time"
                )
            )
        return min(most, self._limit, fitting)

    def _sized(self, running: list[_Request], joining: list[_Request]) -> Pack:
        """A pack with room for these: the one at hand, or another one to which its members move."""
        everyone = [*running, *joining]
        trainable = {name for request in everyone for name in request.trainable}
        old = self._pack if running else None
        if old is not None and len(everyone) <= old.num_slots < 2 * len(everyone) and trainable <= old.trainable:
            return old
        states = {request: old.members[request.trial_id].state() for request in running if old is not None}
        self._pack = old = None  # its memory first
        first = everyone[0]
        material = first.material
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
        for request, state in states.items():
            self._pack.join(request.trial_id, request.spec, request.trainable, state)
        return self._pack

    def _join(self, pack: Pack, request: _Request) -> None:
        try:
            reports = pack.join(request.trial_id, request.spec, request.trainable, request.state)
        except ValueError as error:
            request.news.put(error)
            return
        self._active[request.trial_id] = request
        for report in reports[:-1]:
            request.news.put(report)
        self._tell(pack, {request.trial_id: reports[-1]})

    def _tell(self, pack: Pack, reports: Mapping[str, EpochReport]) -> None:
        for trial_id, report in reports.items():
            request = self._active[trial_id]
            request.news.put(report)
            if report.stopped_by is not None:
                del self._active[trial_id]
                request.news.put(Tuned(pack.leave(trial_id), peak_memory_bytes()))

    def _save_when_due(self, pack: Pack) -> None:
        if self._folder is None or time.monotonic() - self._saved_at < self._save_every_s:
            return
        for trial_id, request in self._active.items():
            if not request.spec.dropout:  # its random numbers would not go on where they were
                saved_states.save_state(self._folder, trial_id, pack.members[trial_id].state())
        self._saved_at = time.monotonic()

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        """Go on with half as many slots, everyone from where it was last saved."""
        num_slots = len(self._active) if self._pack is None else self._pack.num_slots
        if num_slots <= 1:
            self._end_all(error)
            return
        self._limit = num_slots // 2
        again = [replace(request, state=self._saved(request.trial_id)) for request in self._active.values()]
        self._active, self._pack = {}, None
        with self._changed:
            self._waiting = [*again, *self._waiting]
        notice = f"a pack of {num_slots} did not fit the memory: from now on {self._limit} at a time"
        self._waiting[0].news.put(Notice(notice))

    def _end_all(self, error: Exception) -> None:
        """Hand the error to every member, or to all who wait when there is none."""
        concerned = list(self._active.values())
        self._active, self._pack = {}, None
        with self._changed:
            if not concerned:
                concerned, self._waiting = self._waiting, []
        for request in concerned:
            request.news.put(error)

    def _saved(self, trial_id: str) -> MemberState | None:
        return None if self._folder is None else saved_states.load_state(self._folder, trial_id)
