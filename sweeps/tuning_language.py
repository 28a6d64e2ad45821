"""Must it be English? The same texts to tune on, in each of 15 languages.

Question: does tuning on another language than English help or harm the other languages more?
Hypothesis: the tower moves alike in every language (the paper: most of the transformer depends weakly on the language),
so the language that is tuned on gains little more than the others.
Trials: 30: 15 languages at 2 rates, one on each side of the paper's boundary.
Cost: about 66 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: the mean improvement over language pairs, XNLI entailment-neutral, cosine, by tuning language; and over
the pairs whose query is in that language.

The paper leaves the question open (its Limitations). Tuned on XNLI's validation premises, since they are the same in
every language; 700 of them, so that each comes some 20 times in an epoch of the paper's regime.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.sources import XNLI_LANGUAGES, XnliTriplets
from adiabatic_ray.spec import SweepSpec

LANGUAGES = ("en", *(language for language in XNLI_LANGUAGES if language != "en"))
"""English first: the small version keeps the ends of an axis."""


def sweep() -> SweepSpec:
    """Premise -> what it entails, against what it does not, in one language at a time."""
    return paper_sweep(
        "tuning-language",
        "Does tuning on another language than English preserve the other languages better?",
        changes={"source": XnliTriplets(num_tune=700, num_validation=130, num_evaluation=0)},
        grid={"source.language": LANGUAGES, "tuning.learning_rate": (5e-8, 1e-7)},
    )
