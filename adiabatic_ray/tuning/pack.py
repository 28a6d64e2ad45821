"""Tunes the members of a pack side by side: a slot for each, one step of all of them at a time.

Members read the same data in their own orders and differ in margin, freeze plan, seed, stopping, and in all of how a
gradient becomes a step (`step_rules`); they share backbone, batch size and steps an epoch, so that an epoch ends for
all at once. A member that stops frees its slot, and the next one joins at the next epoch. Only query towers run:
positives and negatives are rows of the passage bank, unless a trial tunes both towers, alone in its pack. Nothing is
read back from the device within an epoch.

Legend: K slots, M distinct batches of a step, B queries of a batch, Q validation queries, P passages, D embedding size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts
from adiabatic_ray.encoders.tower_files import query_part
from adiabatic_ray.encoders.towers import untuned_tensor
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.device_work import GraphedSteps
from adiabatic_ray.tuning.lone_tower import LoneTower
from adiabatic_ray.tuning.member import Member
from adiabatic_ray.tuning.news import EpochReport, Trained
from adiabatic_ray.tuning.packed_tower import PackedTower, is_packable
from adiabatic_ray.tuning.passages import BankPassages, Passages, TunedPassages
from adiabatic_ray.tuning.saved_states import MemberState
from adiabatic_ray.tuning.tuning_data import TuningTriplets

_ADDED_BY_TORCH = 1e-6
"""`triplet_margin_loss` adds this to every coordinate difference."""


class QueryTowers(Protocol):
    """What a pack runs: `PackedTower`, or `LoneTower` for one member."""

    device: torch.device

    def parameters_of(self, slot: int) -> Mapping[str, nn.Parameter]:
        """What a member can train, by name."""

    def batch(self, texts: TokenizedTexts, rows_KB: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Each member's own texts, in the form that `embed_batch` takes and on the device."""

    def embed_batch(self, batch: Sequence[torch.Tensor], num_texts: int) -> torch.Tensor:
        """Embeddings [K, B, D] of a batch, with gradients; nothing is copied to or from the device."""

    def embed_all(self, texts: TokenizedTexts, token_budget: int) -> torch.Tensor:
        """Embeddings [K, N, D] of the same texts under every member, without gradients."""

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step, and give their memory back."""

    def hand_out_gradients(self) -> None:
        """Give each member's parameters their gradients."""


class Pack:
    """Up to K trials that are tuned together; see the file head."""

    def __init__(
        self,
        backbone: Backbone,
        trainable: Collection[str],
        like: TuningSpec,
        num_slots: int,
        triplets: TuningTriplets,
        validation: TuningTriplets,
        token_budget: int,
        device: str = "cpu",
    ) -> None:
        """An empty pack.

        Args:
            backbone: of every member.
            trainable: names of the tensors that any member may train.
            like: gives batch size, steps an epoch and dropout, which members have in common.
            num_slots: K; 1 where `packs_alone`.
            triplets: samples to tune on.
            validation: samples to validate on, every one of them after every epoch.
            token_budget: see `encode.plan_batches`; for validation.
            device: where towers and validation passages are held.

        Raises:
            ValueError: fewer samples than one batch, or no validation samples.
        """
        _check_sizes(like, triplets, validation)
        self.trainable = frozenset(trainable)
        self._backbone, self._like, self._budget = backbone, like, token_budget
        self._towers: QueryTowers
        if packs_alone(backbone, like):
            assert num_slots == 1, "a trial that packs alone was given company"
            self._towers = LoneTower(backbone, query_part(dict.fromkeys(trainable)), device, like.dropout)
        else:
            self._towers = PackedTower(backbone, num_slots, trainable, device)
        self._passages: Passages
        if like.towers == "both":
            self._passages = TunedPassages(
                backbone, trainable, triplets, validation, token_budget, device, like.dropout
            )
        else:
            self._passages = BankPassages(triplets, validation, self._towers.device)
        self._triplets, self._validation = triplets, validation
        self._members: list[tuple[str, Member] | None] = [None] * num_slots
        self._margins_K1 = torch.zeros((num_slots, 1), device=self._towers.device)
        self._is_active_K = torch.zeros(num_slots, device=self._towers.device)
        can_be_captured = self._towers.device.type == "cuda" and isinstance(self._towers, PackedTower)
        self.graphs = GraphedSteps() if can_be_captured else None

    @property
    def num_slots(self) -> int:
        """K."""
        return len(self._members)

    @property
    def members(self) -> dict[str, Member]:
        """Members by id, those that stopped included."""
        return dict(one for one in self._members if one is not None)

    def fits(self, spec: TuningSpec) -> bool:
        """Whether a trial has what members must have in common."""
        return _in_common(spec) == _in_common(self._like)

    def join(
        self, member_id: str, spec: TuningSpec, trainable: Collection[str], state: MemberState | None = None
    ) -> tuple[EpochReport, ...]:
        """Put a trial into a free slot; `start` makes its report of epoch 0.

        Args:
            member_id: names it in `run_epoch` and `leave`.
            spec: its regime.
            trainable: what it trains, a part of the pack's.
            state: where it was left, to go on from there; one of other tensors counts as none.

        Returns:
            The reports of the state.

        Raises:
            ValueError: nothing to train, or an optimizer or schedule of the user's own that can't be used.
        """
        if not trainable:
            raise ValueError(
                f"tuning needs something to train, got the freeze plan {spec.freeze!r}, which freezes all of it"
            )
        assert self.fits(spec) and member_id not in self.members, member_id
        slot = self._members.index(None)
        everything = {**self._towers.parameters_of(slot), **self._passages.parameters}
        with torch.no_grad():
            for name, parameter in everything.items():
                parameter.copy_(torch.tensor(untuned_tensor(self._backbone, name)))
        member = Member(spec, {name: everything[name] for name in everything if name in trainable}, len(self._triplets))
        if state is not None and member.can_resume(state):
            member.resume(state)
        if spec.dropout:
            torch.manual_seed(spec.seed)
        self._members[slot] = member_id, member
        self._margins_K1[slot], self._is_active_K[slot] = spec.margin, 1
        self._forget_step()
        return tuple(member.reports)

    def start(self) -> dict[str, EpochReport]:
        """Validate the untuned tower for those who joined; their reports of epoch 0 by member."""
        new = [slot for slot, one in enumerate(self._members) if one is not None and not one[1].reports]
        return self._judge(new, torch.full((self.num_slots,), torch.nan)) if new else {}

    def leave(self, member_id: str) -> Trained:
        """Free a member's slot; what it leaves."""
        slot = next(slot for slot, one in enumerate(self._members) if one is not None and one[0] == member_id)
        member = self.members[member_id]
        trained = Trained(member.trained(), member.l2_lost())
        self._members[slot], self._is_active_K[slot] = None, 0
        self._forget_step()
        return trained

    def run_epoch(self) -> dict[str, EpochReport]:
        """One epoch of every member that has not stopped, after `start`; the reports by member."""
        self.start()
        active = [slot for slot, one in enumerate(self._members) if one is not None and one[1].stopped_by is None]
        assert active, "an epoch needs members"
        loss_K = torch.zeros(len(self._members), dtype=torch.float64, device=self._towers.device)
        for _ in range(self._like.batches_per_epoch):
            loss_K += self._step(active)
        return self._judge(active, loss_K.cpu() / self._like.batches_per_epoch)

    def _step(self, active: list[int]) -> torch.Tensor:
        """One optimizer step of each active member; their mean losses [K], others' mean nothing."""
        rows = {slot: self._member(slot).begin_step() for slot in active}
        rows_KB = np.stack([rows.get(slot, rows[active[0]]) for slot in range(len(self._members))])
        inputs = (*self._passages.batch(rows_KB), *self._towers.batch(self._triplets.queries, rows_KB))
        if self.graphs is None or not all(self._member(slot).can_be_captured for slot in active):
            return self._compute(*inputs)
        return self.graphs.run(self._compute, *inputs)

    def _compute(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The part of a step that runs on the device alone; two tensors of the passages, then those of the queries."""
        sides_KBD = self._passages.embed_batch(inputs[:2])
        queries_KBD = self._towers.embed_batch(inputs[2:], self._like.batch_size)
        to_positive_KB, to_negative_KB = (_distances(queries_KBD, side_KBD) for side_KBD in sides_KBD)
        loss_K = torch.relu(to_positive_KB - to_negative_KB + self._margins_K1).mean(dim=1)
        (loss_K * self._is_active_K).sum().backward()  # type: ignore[no-untyped-call]
        self._towers.hand_out_gradients()
        for one in self._members:
            # A rate of 0 takes no step: adding 0 turns -0.0, of which a rounded encoder has millions, into 0.0.
            if one is not None and one[1].stopped_by is None and one[1].spec.learning_rate:
                one[1].optimizer.step()
        self._passages.clear_gradients()
        self._towers.clear_gradients()  # now, not before the next step: a graph may leave nothing behind in its pool
        return loss_K.detach()

    def _judge(self, slots: list[int], train_loss_K: torch.Tensor) -> dict[str, EpochReport]:
        """Validate, and let each member say whether it goes on."""
        with torch.inference_mode():
            queries_KQD = self._towers.embed_all(self._validation.queries, self._budget)
            sides_QD = self._passages.embed_validation()
            to_positive_KQ, to_negative_KQ = (_distances(queries_KQD, side) for side in sides_QD)
            loss_KQ = torch.relu(to_positive_KQ - to_negative_KQ + self._margins_K1)
            loss_K = loss_KQ.double().mean(dim=1).cpu()
            errors_K = (to_positive_KQ >= to_negative_KQ).sum(dim=1).cpu()
        reports = {}
        for slot in slots:
            report = self._member(slot).finish_epoch(
                float(train_loss_K[slot]), float(loss_K[slot]), int(errors_K[slot]), len(self._validation)
            )
            reports[self._members[slot][0]] = report  # type: ignore[index]
        if any(report.stopped_by is not None for report in reports.values()):
            self._forget_step()
        return reports

    def _member(self, slot: int) -> Member:
        one = self._members[slot]
        assert one is not None
        return one[1]

    def _forget_step(self) -> None:
        """Who is trained, and by which optimizer, is part of what was captured."""
        if self.graphs is not None:
            self.graphs.forget()


def packs_alone(backbone: Backbone, spec: TuningSpec) -> bool:
    """Whether a trial can't share a pack: another layout than BERT's, dropout, or both towers tuned."""
    return spec.dropout or spec.towers == "both" or not is_packable(backbone)


def _in_common(spec: TuningSpec) -> tuple[int, int, bool, str]:
    return spec.batch_size, spec.batches_per_epoch, spec.dropout, spec.towers


def _distances(queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
    """Euclidean distances as `torch.nn.functional.triplet_margin_loss` has them, over the last axis."""
    distances: torch.Tensor = torch.linalg.vector_norm(queries - passages + _ADDED_BY_TORCH, dim=-1)
    return distances


def _check_sizes(spec: TuningSpec, triplets: TuningTriplets, validation: TuningTriplets) -> None:
    if len(triplets) < spec.batch_size:
        raise ValueError(
            f"tuning needs at least one batch, got {len(triplets)} samples for batch_size {spec.batch_size}; "
            "lower batch_size or give more samples"
        )
    if len(validation) == 0:
        raise ValueError("tuning needs validation samples, got none; set num_validation of the source to 1 or more")
