"""Is batch 14 right for 5e-8, with 1,000 batches an epoch?

Question: what does the batch size change when rate and batches an epoch stay, and large ones are validated less often?
Hypothesis: the paper's Table 9: batch 112 stops too late, gains most on MS MARCO and breaks arXiv and the languages.
Trials: 5 batch sizes from 7 to 112.
Cost: about 11 A100-hours (2.2 h a trial, the paper's section M.6); a step of batch 112 holds 8 times the samples.
Deciding rule: language pairs degraded, XNLI entailment-neutral, cosine; then the gain on MS MARCO.
"""

from adiabatic_ray.paper import BATCH_SIZES, paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 9."""
    return paper_sweep(
        "batch-size-fixed-batches",
        "What does E5's batch size change when rate and batches an epoch stay the same?",
        grid={"tuning.batch_size": BATCH_SIZES},
    )
