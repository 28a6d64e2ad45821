"""Where does the adiabatic regime end for E5 with the embedding block frozen?

Question: up to which learning rate does tuning the query tower on MS MARCO leave the other languages as good?
Hypothesis: the paper's Figure 2: pairs improve up to about 6e-8, then degrade while MS MARCO still gains.
Trials: 20 rates from 1e-8 to 2e-7, one seed. Cost: the paper gives about 1 h of tuning and 1.2 h of evaluation a trial
on one A100 (its section M.6).
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine.

The arXiv metadata snapshot is a download of its own: set ARXIV_METADATA to the JSONL file.
"""

from adiabatic_ray.sources import ArxivTriplets, MsMarco, Xnli
from adiabatic_ray.spec import E5, ClusterSpec, EvaluationSpec, SweepSpec, TrialSpec

RATES = tuple(round(step * 1e-8, 10) for step in range(1, 21))


def sweep() -> SweepSpec:
    """The paper's Figure 2 at full size."""
    metadata = "${ARXIV_METADATA}"
    return SweepSpec(
        name="learning-rate",
        question="Up to which learning rate do the other languages hold when E5 is tuned on MS MARCO?",
        trial=TrialSpec(
            backbone=E5,
            source=MsMarco(),
            evaluation=EvaluationSpec(
                sets=(
                    MsMarco(),
                    ArxivTriplets(name="arxiv-title", path=metadata, flavour="title"),
                    ArxivTriplets(name="arxiv-first", path=metadata, flavour="first"),
                    Xnli(),
                ),
                token_budget=16_384,
            ),
        ),
        grid={"tuning.learning_rate": RATES},
        cluster=ClusterSpec(
            tuner_cpus=4, tuner_gpus=0.5, pack_size=20, evaluators=2, evaluator_cpus=2, evaluator_gpus=0.25
        ),
    )
