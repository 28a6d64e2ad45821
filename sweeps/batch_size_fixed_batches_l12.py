"""Is batch 14 right for L12 at 5e-8, with 1,000 batches an epoch?

Question: what does the batch size change for L12 when rate and batches an epoch stay?
Hypothesis: the paper's Table 11: batch 7 breaks the languages by cosine, 28 and more break them by distance.
Trials: 5 batch sizes from 7 to 112.
Cost: about 11 A100-hours (2.2 h a trial, the paper's section M.6); a step of batch 112 holds 8 times the samples.
Deciding rule: language pairs degraded, XNLI entailment-neutral, distance; then the gain on MS MARCO.
"""

from adiabatic_ray.paper import BATCH_SIZES, paper_sweep
from adiabatic_ray.spec import L12, SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 11."""
    return paper_sweep(
        "batch-size-fixed-batches-l12",
        "What does L12's batch size change when rate and batches an epoch stay the same?",
        changes={"backbone": L12},
        grid={"tuning.batch_size": BATCH_SIZES},
    )
