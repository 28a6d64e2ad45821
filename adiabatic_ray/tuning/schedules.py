"""The learning rate of each step: the paper's schedules (Table 19), none, or a user's own.

Legend: t steps taken before the one that comes, 0 for the first; T total number of steps; a schedule gives the factor
by which the rate of the specification is multiplied. Torch counts alike: the first step has the whole rate.

Table 19 calls t "the current training step", and so it is here: E0.95 has halved the rate after 14 steps, all of its
steps together lead no farther than 20 at the whole rate (E0.98: 50). That the paper's E trials differ from untuned
ones by more than so few steps explain may mean that its t counted epochs; the paper does not say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.step_rules import is_import_path
from adiabatic_ray.tuning.own_code import import_callable

Factor = Callable[[int], float]
_CHECKED_STEPS = 10_000
"""Steps of which a user's own schedule is asked before tuning, where nothing says how many there will be."""


def factor_of(spec: TuningSpec) -> Factor:
    """Factor of the rate by step t.

    Raises:
        ValueError: an import path that names nothing to call.
    """
    if is_import_path(spec.schedule):
        return import_callable(spec.schedule, "tuning.schedule")
    num_steps = spec.num_schedule_steps

    def linear(t: int) -> float:
        assert num_steps is not None
        return 1 - min(t / num_steps, 1)

    def quadratic(t: int) -> float:
        assert num_steps is not None
        return 1 - min(t / num_steps, 1) ** 2

    factors: dict[str, Factor] = {
        "constant": lambda t: 1.0,
        "linear": linear,
        "quadratic": quadratic,
        "E0.95": lambda t: 0.95**t,
        "E0.98": lambda t: 0.98**t,
    }
    return factors[spec.schedule]


def check_schedule(spec: TuningSpec) -> None:
    """Ask a user's own schedule for its factors, of all steps where the specification bounds them.

    Raises:
        ValueError: as `factor_of`, or it raises, or gives anything but a finite number from 0 up.
    """
    factor = factor_of(spec)
    if not is_import_path(spec.schedule):
        return
    total = _CHECKED_STEPS if spec.max_epochs is None else spec.max_epochs * spec.batches_per_epoch
    for t in range(total):
        try:
            got = factor(t)
        except Exception as error:
            raise ValueError(
                f"tuning.schedule must take a step from 0 up, got {spec.schedule!r}, which raised "
                f"{type(error).__name__}: {error} at step {t}; mend it"
            ) from error
        if isinstance(got, bool) or not isinstance(got, int | float) or not 0 <= got < math.inf:
            raise ValueError(
                f"tuning.schedule must give a finite factor, 0 or more, got {got!r:.80} from {spec.schedule!r} at step "
                f"{t}; mend it"
            )
