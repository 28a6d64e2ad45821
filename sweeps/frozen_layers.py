"""Which frozen layers preserve E5's other languages best?

Question: how much of the query tower, from the embedding block upwards, must stay frozen?
Hypothesis: the paper's Table 1: the embedding block is enough; only freezing all but the last block changes the result.
Trials: 9 freeze plans, from nothing frozen to everything below the last block.
Cost: about 20 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs improved and degraded, XNLI entailment-neutral and entailment-contradiction; among plans
that do not differ there, the larger gain on MS MARCO.
"""

from adiabatic_ray.paper import FREEZING_ROWS, paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 1."""
    return paper_sweep(
        "frozen-layers",
        "Which frozen layers of E5's query tower preserve the other languages best?",
        grid={"tuning.freeze": FREEZING_ROWS},
    )
