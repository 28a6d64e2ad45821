"""Which of batch size, schedule and weight decay matters?

Question: what do batch size, learning-rate schedule and weight decay change together, at 5e-8 and at 1e-7?
Hypothesis: the paper's Tables 17 and 18: the batch size most, smaller ones are worse; exponential schedules are worse
than the others; decay up to 1e-4 changes nothing.
Trials: 42: the tables' 20 combinations and the tower that they are compared with, at 2 rates.
Cost: about 92 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs degraded against the trial of batch 14 without a schedule (`adiabatic compare`), XNLI
entailment-neutral, cosine.

Where the paper is silent: 1,000 batches an epoch (batches 64 and 100 gain more than 14, as in Table 9, not less, as in
Table 8), and T of the linear and quadratic schedules is the 34,856 batches of one pass at batch 14 (Appendix A). Its t
is the step (Table 19), so that E0.95 and E0.98 all but stop after a few hundred steps; the tables' small losses look as
if t counted epochs. An own schedule, named by import path, gives that reading.
"""

from typing import Any

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec

CONSTANT, LINEAR, QUADRATIC, SLOW, FAST = "constant", "linear", "quadratic", "E0.98", "E0.95"
ROWS = (
    (14, CONSTANT, 0.0),
    (100, QUADRATIC, 0.0),
    (100, SLOW, 1e-6),
    (64, CONSTANT, 0.0),
    (64, QUADRATIC, 0.0),
    (64, SLOW, 1e-6),
    (64, FAST, 1e-6),
    (64, FAST, 1e-5),
    (64, CONSTANT, 1e-4),
    (64, LINEAR, 1e-4),
    (32, QUADRATIC, 1e-4),
    (32, LINEAR, 1e-4),
    (32, SLOW, 1e-4),
    (16, LINEAR, 0.0),
    (16, FAST, 0.0),
    (16, FAST, 1e-4),
    (8, QUADRATIC, 1e-6),
    (8, FAST, 1e-6),
    (8, CONSTANT, 1e-5),
    (8, QUADRATIC, 1e-4),
    (8, FAST, 1e-4),
)
"""Batch size, schedule, weight decay: the reference, then the tables' rows in their order."""
STEPS_TO_ZERO = 34_856


def sweep() -> SweepSpec:
    """The paper's Tables 17 (5e-8) and 18 (1e-7)."""
    return paper_sweep(
        "schedules-and-decay",
        "Which of batch size, learning-rate schedule and weight decay matters?",
        points=[_point(rate, *row) for rate in (5e-8, 1e-7) for row in ROWS],
    )


def _point(rate: float, batch_size: int, schedule: str, weight_decay: float) -> dict[str, Any]:
    point = {
        "tuning.learning_rate": rate,
        "tuning.batch_size": batch_size,
        "tuning.schedule": schedule,
        "tuning.weight_decay": weight_decay,
    }
    return point | ({"tuning.schedule_steps": STEPS_TO_ZERO} if schedule in (LINEAR, QUADRATIC) else {})
