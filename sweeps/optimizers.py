"""Does an optimizer with less inertia preserve the other languages better?

Question: which optimizer, with or without momentum, gains on English without losing languages, slowly and fast?
Hypothesis: the paper's Table 20: Adamax with momentum hardly moves at 2e-8; without momentum it gains like AdamW and
loses fewer pairs. Adadelta and SGD do not change the weights enough to matter.
Trials: 10: 5 optimizers at 2 rates.
Cost: about 22 A100-hours (2.2 h a trial, the paper's section M.6).
Deciding rule: language pairs degraded, XNLI entailment-contradiction, cosine; then the gain on MS MARCO.

Adamax without momentum has both betas 0, as the table's caption says. The rates of Adadelta and SGD, which the table
leaves out, are read as those of the others; `sgd_rates` has the higher ones.
"""

from adiabatic_ray.paper import paper_sweep
from adiabatic_ray.spec import SweepSpec

OPTIMIZERS = (
    {"tuning.optimizer": "adamw"},
    {"tuning.optimizer": "adamax"},
    {"tuning.optimizer": "adamax", "tuning.adam_betas": (0.0, 0.0)},
    {"tuning.optimizer": "adadelta"},
    {"tuning.optimizer": "sgd"},
)
RATES = (2e-8, 1e-7)


def sweep() -> SweepSpec:
    """The paper's Table 20, with the two optimizers that its text adds."""
    return paper_sweep(
        "optimizers",
        "Does an optimizer with less inertia preserve other languages better?",
        points=[{**optimizer, "tuning.learning_rate": rate} for optimizer in OPTIMIZERS for rate in RATES],
    )
