"""Does the square-root rule (rate proportional to the root of the batch size) keep the result?

Question: does scaling the rate with the square root of the batch size leave gains and losses as they are?
Hypothesis: the paper's Table 7: yes, better than the linear rule.
Trials: 5 batch sizes from 7 to 112, 14,000 samples an epoch.
Cost: about 11 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: spread over the rows of the mean improvement over language pairs, XNLI entailment-contradiction, cosine,
against that of `scaling_linear`.
"""

from adiabatic_ray.paper import BATCH_SIZES, batches_for, paper_sweep
from adiabatic_ray.spec import SweepSpec

RATES = (3.54e-8, 5e-8, 7.07e-8, 1e-7, 1.41e-7)


def sweep() -> SweepSpec:
    """The paper's Table 7, with its printed rates."""
    return paper_sweep(
        "scaling-square-root",
        "Does scaling the rate with the root of the batch size keep gains and losses as they are?",
        points=[
            {"tuning.batch_size": size, "tuning.learning_rate": rate, "tuning.batches_per_epoch": batches_for(size)}
            for size, rate in zip(BATCH_SIZES, RATES, strict=True)
        ],
    )
