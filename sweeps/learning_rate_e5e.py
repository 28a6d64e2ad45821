"""Where does the adiabatic regime end for the English-only E5e?

Question: up to which learning rate do the rudimentary multilingual qualities of an English-only encoder hold?
Hypothesis: the paper's Figure 11 and section 3.2: at low rates more pairs improve than
degrade, by less than with E5.
Trials: 20 rates from 1e-8 to 2e-7, one seed.
Cost: about 44 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine.

The rates of Figure 11 are read as those of Figure 2: the text that this was written from has no axis.
"""

from adiabatic_ray.paper import RATES, paper_sweep
from adiabatic_ray.spec import E5E, SweepSpec


def sweep() -> SweepSpec:
    """The paper's Figure 11, its part for E5e."""
    return paper_sweep(
        "learning-rate-e5e",
        "Up to which learning rate do the other languages hold when the English-only E5e is tuned?",
        changes={"backbone": E5E},
        grid={"tuning.learning_rate": RATES},
    )
