"""Which frozen layers preserve L12's other languages best?

Question: does what holds for E5 (`frozen_layers`) hold for an encoder that was trained in another way?
Hypothesis: the paper's Table 4: as with E5, except that 15 pairs degrade whatever is frozen, and many by distance.
Trials: 9 freeze plans, from nothing frozen to everything below the last block.
Cost: about 20 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs improved and degraded, XNLI entailment-neutral and entailment-contradiction; among plans
that do not differ there, the larger gain on MS MARCO.
"""

from adiabatic_ray.paper import FREEZING_ROWS, paper_sweep
from adiabatic_ray.spec import L12, SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 4."""
    return paper_sweep(
        "frozen-layers-l12",
        "Which frozen layers of L12's query tower preserve the other languages best?",
        changes={"backbone": L12},
        grid={"tuning.freeze": FREEZING_ROWS},
    )
