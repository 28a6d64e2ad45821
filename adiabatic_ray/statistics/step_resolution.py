"""Which weights of a trial float32 lets move, known before it is tuned: it needs only weights and a rate.

A step of AdamW or Adamax is at most about the rate, and mostly smaller; a weight whose float32 neighbours lie more than
twice the rate away stays where it is, whatever its gradient says. What is counted is a full step, so these are upper
bounds of what trains. Steps of SGD, Adadelta and a user's own optimizer have no bound that is known beforehand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from adiabatic_ray.statistics.drift import movable_frac
from adiabatic_ray.step_rules import OPTIMIZERS_WITH_BETAS, StepRules

VISIBLE_FRAC = 0.01
"""A sweep is warned where more of the trainable weights can't move, or none of a whole tensor's."""


@dataclass(frozen=True)
class StepResolution:
    """What one trial's steps can do in float32."""

    learning_rate: float
    precision: str
    movable_frac: float | None
    """Of the trainable weights; all of them in a precision that loses nothing. None: steps have no known bound."""
    num_stuck_tensors: int
    """Trainable tensors of which no weight can move."""
    is_decay_lost: bool
    """Whether 1 - rate * decay is 1 in float32."""

    @property
    def warning(self) -> str | None:
        """What a user should know before tuning starts, if anything; nothing about the control, rate 0."""
        if self.learning_rate == 0:
            return None
        found = []
        if self.movable_frac is not None and (1 - self.movable_frac > VISIBLE_FRAC or self.num_stuck_tensors):
            stuck = 1 - self.movable_frac
            share = "nothing at all" if stuck == 1 else f"all but {100 * stuck:.2g}% of the weights"
            found.append(
                f"a full step moves {share} in float32 ({self.num_stuck_tensors} tensors without any), real steps are "
                "mostly smaller"
            )
        if self.is_decay_lost:
            found.append("weight decay does nothing, 1 - rate * decay is 1 in float32")
        if not found:
            return None
        return f"rate {self.learning_rate:g}: {'; '.join(found)}. precision 'compensated' or 'float64' loses nothing"


class StepResolutions:
    """Of many trials; a tensor is looked at once a rate."""

    def __init__(self) -> None:
        """Nothing was looked at yet."""
        self._movable_frac: dict[tuple[str, str, float], float] = {}

    def of(
        self, encoder_digest: str, weights: Mapping[str, np.ndarray], trainable: Collection[str], rules: StepRules
    ) -> StepResolution:
        """Resolution of a trial.

        Args:
            encoder_digest: names the weights.
            weights: float32 tensors of the backbone, by name.
            trainable: names of those that the trial trains.
            rules: rate, optimizer, decay and precision.
        """
        rate, is_exact = rules.learning_rate, rules.precision != "float32"
        if is_exact or rules.optimizer not in OPTIMIZERS_WITH_BETAS:
            return StepResolution(rate, rules.precision, 1.0 if is_exact else None, 0, False)
        fracs, sizes = [], [weights[name].size for name in trainable]
        for name in trainable:
            key = encoder_digest, name, rate
            if key not in self._movable_frac:
                self._movable_frac[key] = movable_frac(weights[name], rate)
            fracs.append(self._movable_frac[key])
        decay_factor = np.float32(1 - rate * rules.weight_decay)
        return StepResolution(
            rate,
            rules.precision,
            float(np.average(fracs, weights=sizes)),
            fracs.count(0.0),
            bool(rules.weight_decay > 0 and decay_factor == 1),
        )


@dataclass(frozen=True)
class RateResolution:
    """Trials of one rate and precision together: ranges over their freeze plans and backbones."""

    learning_rate: float
    precision: str
    num_trials: int
    least_movable_frac: float | None
    most_movable_frac: float | None
    most_stuck_tensors: int
    num_lost_decays: int
    """Trials whose decay does nothing."""
    num_unbounded: int
    """Trials of an optimizer whose steps have no known bound; the shares are of the others."""


def by_rate(resolutions: Iterable[StepResolution]) -> list[RateResolution]:
    """One row a rate and precision, rates ascending; the control, rate 0, has none."""
    groups: dict[tuple[float, str], list[StepResolution]] = {}
    for one in resolutions:
        if one.learning_rate:
            groups.setdefault((one.learning_rate, one.precision), []).append(one)
    rows = []
    for (rate, precision), group in sorted(groups.items()):
        fracs = [one.movable_frac for one in group if one.movable_frac is not None]
        rows.append(
            RateResolution(
                rate,
                precision,
                len(group),
                min(fracs, default=None),
                max(fracs, default=None),
                max(one.num_stuck_tensors for one in group),
                sum(one.is_decay_lost for one in group),
                len(group) - len(fracs),
            )
        )
    return rows
