"""Does tuning on one field of science preserve the other fields and languages?

Question: what happens outside the domain when E5 is tuned on mathematics, physics or computer science alone?
Hypothesis: the paper's Table 5: the rest of arXiv gains 20 to 50%, MS MARCO stays, hardly a language pair degrades.
Trials: 3 domains.
Cost: about 7 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs degraded, XNLI entailment-neutral, cosine, and the gain on MS MARCO.

A tower is evaluated on arXiv without its own domain. The paper does not say how many papers it validates on: 4,200
here, as with MS MARCO.
"""

from adiabatic_ray.paper import arxiv_triplets, paper_evaluation, paper_sweep
from adiabatic_ray.spec import SweepSpec

DOMAINS = ("math", "physics", "cs")


def sweep() -> SweepSpec:
    """The paper's Table 5: first sentence -> rest of the abstract, of one archive."""
    return paper_sweep(
        "narrow-domains",
        "Are other fields and languages preserved when E5 is tuned on one field of arXiv?",
        points=[
            {
                "source": arxiv_triplets(
                    f"arxiv-{domain}", flavour="first", categories=(domain,), num_validation=4_200, num_evaluation=0
                ),
                "evaluation": paper_evaluation(excluded_categories=(domain,)),
            }
            for domain in DOMAINS
        ],
    )
