"""Where does the adiabatic regime end under SGD without momentum?

Question: up to which learning rate do the other languages hold when steps are plain gradients?
Hypothesis: the paper's Figure 14: the same picture as with AdamW, and a sharp increase of degraded pairs near 9e-7.
Trials: 20 rates from 1e-7 to 2e-6, one seed.
Cost: about 44 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine.

The figure's rates are not in the text that this was written from: those here surround the 9e-7 that it names.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec

RATES = tuple(round(step * 1e-7, 10) for step in range(1, 21))


def sweep() -> SweepSpec:
    """The paper's Figure 14."""
    return paper_sweep(
        "sgd-rates",
        "Up to which learning rate do other languages hold under SGD without momentum?",
        changes={"tuning.optimizer": "sgd"},
        grid={"tuning.learning_rate": RATES},
    )
