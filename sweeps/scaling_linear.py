"""Does the linear rule (rate proportional to batch size) keep the result?

Question: does scaling the rate with the batch size leave gains and losses as they are?
Hypothesis: the paper's Table 6: no; from batch 28 on more pairs degrade. `scaling_square_root` does better.
Trials: 5 batch sizes from 7 to 112, 14,000 samples an epoch.
Cost: about 11 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: spread over the rows of the mean improvement over language pairs, XNLI entailment-contradiction, cosine,
against that of `scaling_square_root`.
"""

from adiabatic_ray.paper import BATCH_SIZES, batches_for, paper_sweep
from adiabatic_ray.spec import SweepSpec

RATES = (2.5e-8, 5e-8, 1e-7, 2e-7, 4e-7)


def sweep() -> SweepSpec:
    """The paper's Table 6."""
    return paper_sweep(
        "scaling-linear",
        "Does scaling the rate linearly with the batch size keep gains and losses as they are?",
        points=[
            {"tuning.batch_size": size, "tuning.learning_rate": rate, "tuning.batches_per_epoch": batches_for(size)}
            for size, rate in zip(BATCH_SIZES, RATES, strict=True)
        ],
    )
