"""When should tuning stop?

Question: how many idle epochs may pass before tuning stops, for gains without losing languages?
Hypothesis: the paper's Table 16: 5 and 10 give much the same; 15 gains more on English and loses a few pairs.
Trials: 3 numbers of idle epochs: 5, 10, 15.
Cost: about 7 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs degraded, XNLI entailment-contradiction, cosine; then the gain on MS MARCO.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """The paper's Table 16."""
    return paper_sweep(
        "idle-epochs",
        "After how many epochs without improvement should tuning stop?",
        grid={"tuning.idle_epochs": (5, 10, 15)},
    )
