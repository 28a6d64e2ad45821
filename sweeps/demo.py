"""The main job in minutes on two cores, on parts that a package registry delivers.

Question: how far can the query tower of multilingual E5 be tuned on English docstrings before names in 15 languages
stop matching?
Hypothesis: low rates change nothing or help a little; high rates help the docstrings and break the languages.
Trials: 14: 7 rates from "does nothing" to "clearly broken", two seeds, 18 steps each.
Cost: under 6 minutes on 2 cores.
Deciding rule: the boundary of the mean improvement over the 225 language pairs, cosine.

The final state is evaluated, not the last improved one: a rate that only does harm must show it.
"""

from adiabatic_ray.sources import CldrNames, DocstringTriplets
from adiabatic_ray.spec import PACKAGED_E5, ClusterSpec, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec, geometric


def sweep() -> SweepSpec:
    """Docstrings of some libraries to tune on, of others to check, and CLDR names for the languages."""
    tuned = DocstringTriplets(
        name="docstrings", libraries=("numpy", "pandas"), num_tune=252, num_validation=60, num_evaluation=200
    )
    held_out = DocstringTriplets(name="held-out", libraries=("matplotlib",), num_evaluation=200)
    return SweepSpec(
        name="demo",
        question="How far can E5's query tower be tuned on English docstrings before 15 languages stop matching?",
        trial=TrialSpec(
            backbone=PACKAGED_E5,
            source=tuned,
            tuning=TuningSpec(batches_per_epoch=9, max_epochs=2, idle_epochs=None, keep="final"),
            evaluation=EvaluationSpec(sets=(tuned, held_out, CldrNames(num_names=100))),
        ),
        grid={"tuning.learning_rate": geometric(2e-7, 1e-3, 7), "tuning.seed": (0, 1)},
        cluster=ClusterSpec(tuner_cpus=1, evaluators=2, evaluator_cpus=0, evaluator_threads=1),
    )
