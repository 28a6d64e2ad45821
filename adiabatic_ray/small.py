"""The small version of a sweep: the same question on two cores in minutes, by one rule for every sweep file.

It says nothing about the paper's encoder on the paper's data; it shows that a sweep runs from end to end, and which way
things move. What becomes of a sweep:

- Backbone from the hub: the encoder that a package carries. E5e becomes `MINILM`; of any other the place is taken by
  the weights of `PACKAGED_E5`, under the sweep's own prefixes, pooling and maximum length.
- MS MARCO: SQuAD sentences (the local copy of MS MARCO has too many false negatives to tune on).
- The paper's arXiv snapshot: `arxiv_30k.parquet`, with a random other paper as the negative.
- XNLI where a trial is tuned on XNLI too: CLDR names in its languages, since the local copy has one split.
- Other sources of the hub: their copies below ADIABATIC_DATA. A sweep's own files and packages stay.
- Sets: at most `SIZES` samples a part, `NUM_PREMISES` premises, `NUM_NAMES` names. Labelled pairs of a file stay whole.
- An axis: at most `VALUES_KEPT` values, evenly spaced, first and last among them; the points: `POINTS_KEPT`.
- Steps: batches an epoch divided by 50 (1,000 become 20), numbers of epochs by 5 (the steps of a schedule by both), and
  at most 3 epochs where the sweep sets no limit. Rates times 200, since a tower goes about as far as rate times steps.
  Rates stay where precision is varied: the spacing of numbers does not widen when steps get fewer. A sweep whose epochs
  have 50 batches or less is small already: batches, epochs and rates stay.
- A search: its rates as those of a grid; at most `SEARCH_TRIALS` trials, two at a time.
- Cluster: two cores. An evaluation in TF32, which only GPUs have, is one in float32.

ADIABATIC_DATA names a folder with `hub/` (copies in the hub's layout of `rajpurkar/squad_v2` and `facebook/xnli`),
`arxiv_30k.parquet` and `hotpotqa_dev500.parquet`. Only pydantic is needed, as for the specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from adiabatic_ray.changes import with_changes
from adiabatic_ray.paper import ARXIV_METADATA
from adiabatic_ray.search_spec import GainSearch, SearchSpec
from adiabatic_ray.sources import (
    ArxivTriplets,
    CldrNames,
    EvaluationSource,
    HotpotQa,
    MsMarco,
    Source,
    SquadSentences,
    Triplets,
    TripletSource,
    Xnli,
    XnliTriplets,
)
from adiabatic_ray.spec import (
    E5E,
    MINILM,
    PACKAGED_E5,
    BackboneSpec,
    ClusterSpec,
    EvaluationSpec,
    SweepSpec,
    TrialSpec,
    TuningSpec,
)

HUB, ARXIV, HOTPOT = (f"${{ADIABATIC_DATA}}/{name}" for name in ("hub", "arxiv_30k.parquet", "hotpotqa_dev500.parquet"))
SIZES = {"squad": (300, 20, 60), "hotpotqa": (300, 60, 60), "xnli_triplets": (1000, 200, 300)}
"""Kind of source -> most samples to tune on, validate on and evaluate on: paragraphs, questions, premises."""
OTHER_SIZES = (900, 200, 200)
NUM_PREMISES, NUM_NAMES = 100, 100
VALUES_KEPT = {1: 5, 2: 3}
"""Number of axes -> values kept of each; 2 where there are more axes."""
POINTS_KEPT = 6
SEARCH_TRIALS = 12
BATCHES_DIVISOR, EPOCHS_DIVISOR, MOST_EPOCHS = 50, 5, 3
LONGEST_SMALL_EPOCH = 50
RATE_FACTOR = 200
"""The boundary lies near 6e-8 at the paper's steps, near 4e-6 after 150 (docs/squad_rates.md); here are about 60."""
TOKEN_BUDGET = 512
MINUTES_PER_SOURCE, MINUTES_PER_TRIAL, MINUTES_PER_THOUSAND_SAMPLES = 3.0, 0.5, 0.5
"""From `learning_rate`, without Ray, on one thread of a shared core: 190 s of CPU time for banks, 47 s to score a tower
and 50 s to tune it on 840 samples. Halved for two cores and rounded up, for Ray's start among others."""
SMALL_CLUSTER = ClusterSpec(tuner_cpus=1, evaluators=2, evaluator_cpus=0, evaluator_threads=1)

Value = TypeVar("Value")
AnySource = TypeVar("AnySource", bound=Source)


def small_sweep(spec: SweepSpec) -> SweepSpec:
    """The small version of a sweep, as the text on top says; its name ends in `-small`.

    Raises:
        ValueError: an axis runs over a field that is not there any more because its source was replaced.
    """
    paths = {*spec.grid, *(path for point in spec.points for path in point)}
    cut = _Cut(
        steps=max(trial.tuning.batches_per_epoch for trial in spec.expand()) > LONGEST_SMALL_EPOCH,
        rates="tuning.precision" not in paths,
    )
    num_kept = VALUES_KEPT.get(len(spec.grid), 2)
    first = {path: values[0] for path, values in spec.grid.items()}  # a value is cut inside a trial that is valid
    return SweepSpec(
        name=f"{spec.name}-small",
        question=spec.question,
        trial=cut.trial(spec.trial),
        grid={
            path: _distinct(
                cut.changes(spec.trial, {**first, path: value})[path] for value in _evenly(values, num_kept)
            )
            for path, values in spec.grid.items()
        },
        points=_distinct(cut.changes(spec.trial, point) for point in _evenly(spec.points, POINTS_KEPT)),
        search=None if spec.search is None else cut.search(spec.search, spec.trial),
        cluster=SMALL_CLUSTER,
    )


def small_minutes(spec: SweepSpec) -> float:
    """Rough estimate of how long a small sweep takes on two free cores, if no trial stops early."""
    trials, samples = spec.expand(), 0
    for trial in trials:
        epochs = trial.tuning.max_epochs or MOST_EPOCHS
        samples += trial.tuning.batch_size * trial.tuning.batches_per_epoch * epochs
    num_sources = len({trial.source for trial in trials})
    per_trial = MINUTES_PER_TRIAL + samples / len(trials) / 1000 * MINUTES_PER_THOUSAND_SAMPLES
    return num_sources * MINUTES_PER_SOURCE + spec.most_trials * per_trial


@dataclass(frozen=True)
class _Cut:
    """How the trials of one sweep are cut."""

    steps: bool
    """Fewer batches and epochs; else they are few already."""
    rates: bool
    """Higher rates where there are fewer steps."""

    def changes(self, trial: TrialSpec, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What a trial with these changes has at the same paths when it is small."""
        small = self.trial(with_changes(trial, changes))
        return {path: _at(small, path) for path in changes}

    def trial(self, trial: TrialSpec) -> TrialSpec:
        return TrialSpec(
            backbone=_small_backbone(trial.backbone),
            source=_small_triplets(trial.source, is_tuned_on=True),
            tuning=self.tuning(trial.tuning) if self.steps else trial.tuning,
            evaluation=EvaluationSpec(
                sets=tuple(_small_set(source, trial.source) for source in trial.evaluation.sets),
                token_budget=min(trial.evaluation.token_budget, TOKEN_BUDGET),
                precision="float32" if trial.evaluation.precision == "tf32" else trial.evaluation.precision,
            ),
        )

    def tuning(self, tuning: TuningSpec) -> TuningSpec:
        changes: dict[str, Any] = {
            "batches_per_epoch": _divided(tuning.batches_per_epoch, BATCHES_DIVISOR),
            "max_epochs": MOST_EPOCHS if tuning.max_epochs is None else _divided(tuning.max_epochs, EPOCHS_DIVISOR),
        }
        if tuning.schedule_steps is not None:
            changes["schedule_steps"] = _divided(tuning.schedule_steps, BATCHES_DIVISOR * EPOCHS_DIVISOR)
        if tuning.idle_epochs is not None:
            changes["idle_epochs"] = _divided(tuning.idle_epochs, EPOCHS_DIVISOR)
        if self.rates:
            changes["learning_rate"] = _higher(tuning.learning_rate)
        return with_changes(tuning, changes)

    def search(self, search: SearchSpec, trial: TrialSpec) -> SearchSpec:
        """The same search among the small trials, whose sets may have other names."""
        sets = zip(trial.evaluation.sets, self.trial(trial).evaluation.sets, strict=True)
        name_of = {source.name: small.name for source, small in sets}
        changes: dict[str, Any] = {
            "set": name_of[search.set],
            "max_trials": min(search.max_trials, SEARCH_TRIALS),
            "parallel": min(search.parallel, 2),
        }
        if isinstance(search, GainSearch):
            changes["gain_set"] = name_of[search.gain_set]
        if self.steps and self.rates:
            changes |= {name: _higher(getattr(search, name)) for name in ("lowest_rate", "highest_rate")}
        return with_changes(search, changes)


def _higher(rate: float) -> float:
    return float(f"{rate * RATE_FACTOR:.6g}")


def _small_backbone(backbone: BackboneSpec) -> BackboneSpec:
    if backbone.source != "hub":
        return backbone
    if backbone.name == E5E.name:
        return MINILM
    weights = PACKAGED_E5.model_dump(include={"name", "source", "revision"})
    return with_changes(backbone, {**weights, "encoder_digest": None})


def _small_set(source: EvaluationSource, tuned_on: TripletSource) -> EvaluationSource:
    match source:
        case Xnli() if isinstance(tuned_on, XnliTriplets):
            return CldrNames(name=f"cldr-for-{source.name}", languages=source.languages, num_names=NUM_NAMES)
        case Xnli():
            premises = _at_most(source.num_premises, NUM_PREMISES)
            return _changed(source, num_premises=premises, path=source.path or HUB)
        case CldrNames():
            return _changed(source, num_names=_at_most(source.num_names, NUM_NAMES))
        case Triplets():
            return _small_triplets(source, is_tuned_on=False)
        case _:
            return source


def _small_triplets(source: TripletSource, is_tuned_on: bool) -> TripletSource:
    local: TripletSource = source
    match source:
        case MsMarco():
            local = SquadSentences(
                name=f"squad-for-{source.name}",
                path=HUB,
                splits=("validation",),
                num_tune=source.num_tune,
                num_validation=source.num_validation,
                num_evaluation=source.num_evaluation,
            )
        case SquadSentences(path=None):
            local = _changed(source, path=HUB, splits=("validation",))
        case XnliTriplets(path=None):
            local = _changed(source, path=HUB, split="test")
        case HotpotQa(path=None):
            local = _changed(source, path=HOTPOT, level=None)  # the copy has one level only
        case ArxivTriplets(path=path) if path == ARXIV_METADATA:
            local = _changed(source, path=ARXIV, negatives=None, level=ArxivTriplets.model_fields["level"].default)
        case _:
            pass
    tune, validation, evaluation = SIZES.get(local.kind, OTHER_SIZES)
    # Not tuned on, and no size given: the part to tune on is whatever is left, and is not read.
    has_tuning_size = is_tuned_on or local.num_tune is not None
    return _changed(
        local,
        num_tune=_at_most(local.num_tune, tune) if has_tuning_size else None,
        num_validation=min(local.num_validation, validation),
        num_evaluation=_at_most(local.num_evaluation, evaluation),
    )


def _changed(source: AnySource, **changes: Any) -> AnySource:
    """Copy of a source with other texts, which a digest of the old ones would refuse; an unchanged one keeps its."""
    changed = with_changes(source, changes)
    return source if changed == source else with_changes(changed, {"digest": None})


def _at_most(size: int | None, most: int) -> int:
    return most if size is None else min(size, most)


def _divided(number: int, divisor: int) -> int:
    return max(1, round(number / divisor))


def _evenly(values: Sequence[Value], most: int) -> Sequence[Value]:
    """At most so many of the values, evenly spaced, first and last among them."""
    if len(values) <= most:
        return values
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _distinct(values: Iterable[Value]) -> tuple[Value, ...]:
    """Without repetitions: what was different may be the same when it is small. Values need not be hashable."""
    kept: list[Value] = []
    for value in values:
        if value not in kept:
            kept.append(value)
    return tuple(kept)


def _at(model: BaseModel, path: str) -> Any:
    """What a model has at a dotted path, as in `with_changes`."""
    place: Any = model
    for part in path.split("."):
        if isinstance(place, tuple) and part.isdigit():
            place = place[int(part)]
        elif hasattr(place, part):
            place = getattr(place, part)
        else:
            raise ValueError(
                f"the small version of a sweep must have the fields that it varies, got {path!r}: no {part!r} in "
                f"{type(place).__name__}, which stands in there; give the sweep local sources, or vary whole sources"
            )
    return place
