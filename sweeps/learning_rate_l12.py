"""Where does the adiabatic regime end for L12?

Question: up to which learning rate do the other languages hold when L12, trained in another way than E5, is tuned?
Hypothesis: the paper's Figure 11 and section M.4: L12 is more sensitive than E5, its boundary lies lower.
Trials: 20 rates from 1e-8 to 2e-7, one seed.
Cost: about 44 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine.

The rates of Figure 11 are read as those of Figure 2: the text that this was written from has no axis.
"""

from adiabatic_ray.paper import RATES, paper_sweep
from adiabatic_ray.spec import L12, SweepSpec


def sweep() -> SweepSpec:
    """The paper's Figure 11, its part for L12."""
    return paper_sweep(
        "learning-rate-l12",
        "Up to which learning rate do the other languages hold when L12 is tuned on MS MARCO?",
        changes={"backbone": L12},
        grid={"tuning.learning_rate": RATES},
    )
