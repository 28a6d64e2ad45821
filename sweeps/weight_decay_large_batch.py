"""Does weight decay help at a higher rate and a larger batch?

Question: does decoupled weight decay preserve the other languages better where it can act: rate 1e-7, batch 56?
Hypothesis: the paper's Table 12: no; from 50 on it destroys both gains and languages.
Trials: 8 decays from 0.05 to 100.
Cost: about 18 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs degraded, XNLI entailment-contradiction, cosine, against batch 56 in
`scaling_square_root`.

14,000 samples an epoch: Table 12's rows of least decay are Table 7's row of batch 56 in every digit.
"""

from adiabatic_ray.paper import batches_for, paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 12."""
    return paper_sweep(
        "weight-decay-large-batch",
        "Does weight decay preserve other languages better at rate 1e-7 and batch 56?",
        changes={
            "tuning.learning_rate": 1e-7,
            "tuning.batch_size": 56,
            "tuning.batches_per_epoch": batches_for(56),
        },
        grid={"tuning.weight_decay": (100.0, 50.0, 10.0, 5.0, 1.0, 0.5, 0.1, 0.05)},
    )
