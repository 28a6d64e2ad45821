"""In which coordinate do the boundaries of unlike trials fall onto one another?

Question: which measure of how far a tower was tuned (rate, rate x steps, displacement, turned embeddings) puts the
boundary of every step count, batch size, optimizer, schedule, decay and freeze plan at one value?
Hypothesis: not the learning rate, and not rate x steps once the optimizer changes; the displacement of the weights does
better, and how far multilingual query embeddings turned does best.
Trials: 45: 11 settings, 4 rates each around the boundary that rate x steps lets expect, and 5 for SGD, whose boundary
nothing lets expect.
Cost: over an hour on 2 busy cores.
Deciding rule: the standard deviation of log10 of the boundary over the settings, by coordinate; XNLI
entailment-neutral, cosine, the mean over language pairs at -1%.

Packaged E5 tuned on SQuAD sentences as in `squad_rates`, with few evaluation texts so that a trial is cheap: settings
share their texts, so the spread between them suffers less from that than one boundary does. The final state is
evaluated: a rate that only does harm must show it. Texts come from a folder in the hub's layout, named by
ADIABATIC_DATA.
"""

from typing import Any

from adiabatic_ray.sources import SquadSentences, Xnli
from adiabatic_ray.spec import PACKAGED_E5, ClusterSpec, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec

SETTINGS: tuple[tuple[dict[str, Any], tuple[float, ...]], ...] = (
    ({"tuning.optimizer": "sgd"}, (1e-3, 1e-2, 1e-4, 3e-3, 3e-4)),
    ({}, (4e-6, 8e-6, 2e-6, 1.6e-5)),
    ({"tuning.max_epochs": 2}, (1e-5, 2e-5, 5e-6, 4e-5)),
    ({"tuning.max_epochs": 16}, (2.5e-6, 5e-6, 1.25e-6, 1e-5)),
    ({"tuning.batch_size": 4}, (4e-6, 8e-6, 2e-6, 1.6e-5)),
    ({"tuning.batch_size": 42}, (4e-6, 8e-6, 2e-6, 1.6e-5)),
    ({"tuning.optimizer": "adamax"}, (6e-6, 1.2e-5, 3e-6, 2.4e-5)),
    ({"tuning.schedule": "linear"}, (8e-6, 1.6e-5, 4e-6, 3.2e-5)),
    ({"tuning.weight_decay": 10.0}, (4e-6, 8e-6, 2e-6, 1.6e-5)),
    ({"tuning.freeze": "embeddings, output.dense.weight"}, (1e-5, 2e-5, 5e-6, 4e-5)),
    ({"tuning.freeze": "emb, B0-5"}, (6e-6, 1.2e-5, 3e-6, 2.4e-5)),
)
"""What differs from the reference (AdamW, batch 14, 60 steps), and the rates in the order in which they run: a sweep
that is stopped has the middle ones of every setting."""


def sweep() -> SweepSpec:
    """Eleven settings, each at its own rates."""
    squad = SquadSentences(
        path="${ADIABATIC_DATA}/hub", splits=("validation",), num_tune=880, num_validation=20, num_evaluation=60
    )
    rounds = range(max(len(rates) for _, rates in SETTINGS))
    return SweepSpec(
        name="boundary-coordinates",
        question="In which coordinate do unlike settings reach the boundary at the same value?",
        trial=TrialSpec(
            backbone=PACKAGED_E5,
            source=squad,
            tuning=TuningSpec(batches_per_epoch=10, max_epochs=6, idle_epochs=None, keep="final"),
            evaluation=EvaluationSpec(sets=(squad, Xnli(path="${ADIABATIC_DATA}/hub", num_premises=100))),
        ),
        grid={},
        points=tuple(
            {**changes, "tuning.learning_rate": rates[turn]}
            for turn in rounds
            for changes, rates in SETTINGS
            if turn < len(rates)
        ),
        cluster=ClusterSpec(tuner_cpus=1, evaluators=2, evaluator_cpus=0, evaluator_threads=1),
    )
