"""Does freezing `output.dense.weight` in every block move the boundary?

Question: up to which learning rate do the other languages hold when the feed-forward output weights stay frozen too?
Hypothesis: the paper's Figure 3: the regime extends from about 6e-8 to about 1.3e-7; beyond it degrades more steeply.
Trials: 20 rates, those of `learning_rate`, which is the other curve.
Cost: about 44 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine, lies above
that of `learning_rate`, and the two intervals do not overlap.
"""

from adiabatic_ray.paper import RATES, paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Figure 3 at full size."""
    return paper_sweep(
        "learning-rate-output-dense-frozen",
        "Does freezing output.dense.weight in every block move the boundary of E5?",
        changes={"tuning.freeze": "embeddings, output.dense.weight"},
        grid={"tuning.learning_rate": RATES},
    )
