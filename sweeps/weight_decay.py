"""Does weight decay help at the default rate?

Question: does decoupled weight decay preserve the other languages better, at rate 5e-8 and batch 14?
Hypothesis: the paper's Table 13: no. Its rows for 0.1 and 0.5 are those without decay in every digit: in float32
1 - rate * decay is exactly 1 there.
Trials: 4 decays from 0.1 to 5.
Cost: about 9 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs degraded, XNLI entailment-contradiction, cosine, against the default trial
of `frozen_layers`.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 13."""
    return paper_sweep(
        "weight-decay",
        "Does weight decay preserve other languages better at the default rate and batch?",
        grid={"tuning.weight_decay": (5.0, 1.0, 0.5, 0.1)},
    )
