"""Where does the adiabatic regime end for E5 with the embedding block frozen?

Question: up to which learning rate does tuning the query tower on MS MARCO leave the other languages as good?
Hypothesis: the paper's Figure 2: pairs improve up to about 6e-8, then degrade while MS MARCO still gains.
Trials: 20 rates from 1e-8 to 2e-7, one seed.
Cost: about 44 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine.
"""

from adiabatic_ray.paper import RATES, paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Figure 2 at full size."""
    return paper_sweep(
        "learning-rate",
        "Up to which learning rate do the other languages hold when E5 is tuned on MS MARCO?",
        grid={"tuning.learning_rate": RATES},
    )
