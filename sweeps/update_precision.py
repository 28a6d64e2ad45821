"""Is the regime's lower end, or its boundary, made by float32?

Question: does the curve of gains and losses against the rate change when no part of a step is lost to rounding?
Hypothesis: at 5e-9 to 2e-8 float32 loses most steps, so that more precise updates gain there; near 6e-8, where weights
of size 1 begin to move in float32, the curves meet. If the boundary moves too, rounding has part in it.
Trials: 21: float32, compensated and float64 at 7 rates.
Cost: about 46 A100-hours (2.2 h a trial, the paper's section M.6); float64 steps take longer.
Deciding rule: compensated against float32 at the same rate (`adiabatic compare`): the gain on MS MARCO, and the mean
improvement over language pairs, XNLI entailment-neutral, cosine. Compensated and float64 must agree.

The paper does not look at this. 20 epochs for every trial and the last state: early stopping would hide what is lost.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """Low rates, up to just beyond the paper's boundary, in three precisions of the update."""
    return paper_sweep(
        "update-precision",
        "Is the lower end of the regime, or its boundary, made by float32 rounding?",
        changes={"tuning.idle_epochs": None, "tuning.max_epochs": 20, "tuning.keep": "final"},
        grid={
            "tuning.precision": ("float32", "compensated", "float64"),
            "tuning.learning_rate": (5e-9, 1e-8, 2e-8, 4e-8, 6e-8, 7e-8, 1e-7),
        },
    )
