"""Where is the boundary, with and without `output.dense.weight` frozen, found with as few trials as possible?

Question: where does E5 break, by each of the two freeze plans of the paper's Figures 2 and 3?
Hypothesis: that of `learning_rate` and `learning_rate_output_dense_frozen`, which take 40 rates between them and one
seed: near 6e-8, and about twice as high with the layer frozen.
Trials: at most 40, both plans together, with up to three seeds a rate; rates from 1e-8 to 1e-6 are chosen where they
tell most about the rate at which the mean improvement over language pairs falls below -1%.
Cost: about 88 A100-hours (2.2 h a trial, the paper's section M.6; fewer if the intervals are narrow before).
Deciding rule: each plan's 95% interval for these texts is narrower than 0.1 decades (a factor of 1.26); the report
gives the ratio of the two boundaries, and intervals that cover the texts too.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.search_spec import BoundarySearch
from adiabatic_ray.spec import SweepSpec


def sweep() -> SweepSpec:
    """A search for each of two freeze plans."""
    return paper_sweep(
        "adaptive-boundary",
        "Where is the boundary of E5, with and without output.dense.weight frozen, found with few trials?",
        grid={"tuning.freeze": ("embeddings", "embeddings, output.dense.weight")},
        search=BoundarySearch(
            lowest_rate=1e-8, highest_rate=1e-6, set="xnli", relation="entailment-neutral", max_trials=40, parallel=4
        ),
    )
