"""Which family of weight matrices ends the adiabatic regime?

Question: does freezing one family of weight matrices by itself, in all blocks, move the boundary, and which family?
Hypothesis: the paper's sections 3.3 and M.3 suspect `output.dense.weight`, by the size of its largest weights. But a
weight also rounds away steps that are small beside it: then it is the size that counts, and not the family.
Trials: 28: six families and none, each at 4 rates from the paper's default to its highest.
Cost: about 62 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine, by family; a
family matters if its interval lies above that of freezing none.

The paper tries one of the six (Figure 3) and calls for more research on the others.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec

FAMILIES = (
    "*.attention.self.query.weight",
    "*.attention.self.key.weight",
    "*.attention.self.value.weight",
    "*.attention.output.dense.weight",
    "*.intermediate.dense.weight",
    "output.dense.weight",
)
RATES = (5e-8, 1e-7, 1.5e-7, 2e-7)


def sweep() -> SweepSpec:
    """Each family of weight matrices beside the embedding block, at rates on both sides of the boundary."""
    plans = ("embeddings", *(f"embeddings, {family}" for family in FAMILIES))
    return paper_sweep(
        "frozen-families",
        "Which family of E5's weight matrices, when frozen in all blocks, moves the boundary?",
        grid={"tuning.freeze": plans, "tuning.learning_rate": RATES},
    )
