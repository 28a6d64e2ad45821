"""Is batch 14 right for L12 at 5e-8, with 14,000 samples an epoch?

Question: what does the batch size change for L12 when rate and samples an epoch stay?
Hypothesis: the paper's Table 10: as with E5, but batch 7 is bad.
Trials: 5 batch sizes from 7 to 112.
Cost: about 11 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs degraded, XNLI entailment-neutral, distance; then the gain on MS MARCO.
"""

from adiabatic_ray.paper import BATCH_SIZES, batches_for, paper_sweep
from adiabatic_ray.spec import L12, SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 10."""
    return paper_sweep(
        "batch-size-fixed-samples-l12",
        "What does L12's batch size change when rate and samples an epoch stay the same?",
        changes={"backbone": L12},
        points=[{"tuning.batch_size": size, "tuning.batches_per_epoch": batches_for(size)} for size in BATCH_SIZES],
    )
