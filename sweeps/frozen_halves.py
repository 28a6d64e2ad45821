"""Is it the lower or the upper half of the blocks that breaks the other languages?

Question: which half of the blocks, when it stays frozen, lets the tower be tuned faster before other languages break?
Hypothesis: AlignFreeze finds realignment most harmful in the lower layers: freezing the front half helps, the back half
does not.
Trials: 15: front half (B0-5), back half (B6-11) and neither, each at 5 rates around the paper's boundary.
Cost: about 33 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine, by plan.

AlignFreeze freezes the lower or the upper half of the layers. Here the embedding block stays frozen in all three
plans, as in the paper's regime, so that only the half differs. The front half at 5e-8 is a row of `frozen_layers` too.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec

PLANS = ("embeddings", "embeddings, B0-5", "embeddings, B6-11")
RATES = (2e-8, 5e-8, 1e-7, 1.5e-7, 2e-7)


def sweep() -> SweepSpec:
    """AlignFreeze's front and back halves, at rates on both sides of the boundary."""
    return paper_sweep(
        "frozen-halves",
        "Which half of E5's blocks, when frozen, lets it be tuned faster before other languages break?",
        grid={"tuning.freeze": PLANS, "tuning.learning_rate": RATES},
    )
