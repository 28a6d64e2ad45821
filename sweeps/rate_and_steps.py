"""Is it speed or distance that breaks the other languages?

Question: do the languages break because steps are large, or because the tower has gone far?
Hypothesis: distance: trials of equal rate x steps lose alike. If it is speed, as "adiabatic" says, the slower of two
trials that went equally far loses less.
Trials: 16: 4 rates x 4 numbers of steps, each doubling, so that seven products are met by up to four trials.
Cost: about 35 A100-hours (2.2 h a trial, the paper's section M.6); tuning here takes 5,000 to 40,000 steps.
Deciding rule: among trials of equal rate x steps, the slope of the mean improvement over language pairs (XNLI
entailment-neutral, cosine) on log rate: an interval that holds 0 speaks for distance.

Early stopping ties steps to the rate, so the paper cannot tell the two apart: here nothing stops early, and the last
state is evaluated. `drift` says how far each trial really went.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """Rates and epochs of 1,000 batches, both in powers of two."""
    return paper_sweep(
        "rate-and-steps",
        "Do other languages break because steps are large, or because the tower has gone far?",
        changes={"tuning.idle_epochs": None, "tuning.max_epochs": 5, "tuning.keep": "final"},
        grid={"tuning.learning_rate": (2.5e-8, 5e-8, 1e-7, 2e-7), "tuning.max_epochs": (5, 10, 20, 40)},
    )
