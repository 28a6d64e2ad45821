"""Which margin of the triplet loss is safe for L12?

Question: up to which margin do the other languages and arXiv hold when L12 is tuned?
Hypothesis: the paper's Figure 13: 0.1 is distinctly best; L12 is more sensitive than E5.
Trials: 10 margins from 0.02 to 0.5.
Cost: about 22 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the largest margin at which no more pairs degrade than at 0.1, XNLI entailment-contradiction, cosine.

The figure's margins are not in the text that this was written from: those here surround the 0.1 and 0.15 that it names.
"""

from adiabatic_ray.paper import MARGINS, paper_sweep
from adiabatic_ray.spec import L12, SweepSpec


def sweep() -> SweepSpec:
    """The paper's Figure 13."""
    return paper_sweep(
        "margin-l12",
        "Up to which margin of the triplet loss do other languages hold when L12 is tuned?",
        changes={"backbone": L12},
        grid={"tuning.margin": MARGINS},
    )
