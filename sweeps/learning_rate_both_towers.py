"""Where does the adiabatic regime end when both towers of E5 are tuned, as two encoders?

Question: up to which learning rate do the other languages hold if the passage tower is tuned as well?
Hypothesis: the paper's Figure 11: rates that still gain on MS MARCO lose what was not tuned for; lower ones keep it.
Trials: 20 rates, those of `learning_rate`, which tunes the query tower alone.
Cost: about 44 A100-hours (2.2 h a trial, the paper's section M.6, is for one tower: passages come on top).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine, against that
of `learning_rate`.

The rates of Figure 11 are read as those of Figure 2: the text that this was written from has no axis.
"""

from adiabatic_ray.paper import RATES, paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Figure 11, its part for E5 as two encoders; the embedding block is frozen in both."""
    return paper_sweep(
        "learning-rate-both-towers",
        "Up to which learning rate do the other languages hold when both towers of E5 are tuned?",
        changes={"tuning.towers": "both"},
        grid={"tuning.learning_rate": RATES},
    )
