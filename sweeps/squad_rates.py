"""The main question on real texts at a size for two cores.

Question: up to which learning rate do the languages of XNLI hold when the packaged E5 is tuned on SQuAD sentences?
Hypothesis: with a few hundred steps instead of tens of thousands the boundary lies orders of magnitude above the
paper's 6e-8, since what moves a tower is rate times steps.
Trials: 6 rates from 5e-8 to 1e-4, one seed, 150 steps each, the final state evaluated (a rate that only does harm must
show it). All 225 language pairs, on the first 500 premises: `--set trial.evaluation.sets.3.num_premises=null` takes
all 1,670.
Cost: see docs/squad_rates.md.
Deciding rule: the boundary of the mean improvement over language pairs, XNLI entailment-neutral, cosine.

Texts come from a folder in the hub's layout, named by ADIABATIC_DATA, with an arXiv metadata file beside it.
"""

from adiabatic_ray.sources import ArxivTriplets, SquadSentences, Xnli
from adiabatic_ray.spec import PACKAGED_E5, ClusterSpec, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec

RATES = (5e-8, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4)


def sweep() -> SweepSpec:
    """Rates over three decades, all 225 language pairs, two arXiv sets."""
    hub, papers = "${ADIABATIC_DATA}/hub", "${ADIABATIC_DATA}/arxiv_30k.parquet"
    squad = SquadSentences(path=hub, splits=("validation",), num_tune=880, num_validation=60, num_evaluation=236)
    return SweepSpec(
        name="squad-rates",
        question="Up to which learning rate do XNLI's languages hold when E5 is tuned on SQuAD sentences?",
        trial=TrialSpec(
            backbone=PACKAGED_E5,
            source=squad,
            tuning=TuningSpec(batches_per_epoch=50, max_epochs=3, idle_epochs=None, keep="final"),
            evaluation=EvaluationSpec(
                sets=(
                    squad,
                    ArxivTriplets(name="arxiv-title", path=papers, flavour="title", num_papers=1000),
                    ArxivTriplets(name="arxiv-first", path=papers, flavour="first", num_papers=1000),
                    Xnli(path=hub, num_premises=500),
                )
            ),
        ),
        grid={"tuning.learning_rate": RATES},
        cluster=ClusterSpec(tuner_cpus=1, evaluators=2, evaluator_cpus=0, evaluator_threads=1),
    )
