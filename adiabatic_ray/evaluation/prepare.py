"""From a trial's specification to what its work needs: backbone, texts, token ids, rows of passage banks.

Everything here is shared by all trials with the same backbone, source and evaluation sets (a group). Loading also pins
the specification: digests of weights and texts are filled in, so that a trial's id speaks of content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from adiabatic_ray.corpora.data import PairSet, TripletSet, load_pairs, load_triplets, load_tuning, tuning_digest
from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, load_backbone
from adiabatic_ray.evaluation.bank import BankKey, digest_of_texts
from adiabatic_ray.evaluation.evaluate import Prepared, PreparedPairs, PreparedTriplets
from adiabatic_ray.sources import CldrNames, EvaluationSource, PairFile, TripletSource, Xnli
from adiabatic_ray.spec import BackboneSpec, Precision, TrialSpec, UntunedSpec
from adiabatic_ray.tuning.tuning_data import TuningTriplets


@dataclass(frozen=True)
class EvaluationInputs:
    """Loaded backbone and texts of what towers are scored on."""

    backbone: Backbone
    evaluation: tuple[TripletSet | PairSet, ...]
    token_budget: int
    precision: Precision

    def query_texts(self) -> list[list[str]]:
        """Texts that a tower encodes, set by set; of pairs language after language."""
        return [
            [text for language in texts.languages for text in texts.query_texts[language]]
            if isinstance(texts, PairSet)
            else texts.queries
            for texts in self.evaluation
        ]

    def passage_texts(self) -> list[list[str]]:
        """Passages, set by set; of pairs language after language."""
        return [
            [text for language in texts.languages for text in texts.passage_texts[language]]
            if isinstance(texts, PairSet)
            else texts.passages
            for texts in self.evaluation
        ]

    def bank_texts(self) -> list[list[str]]:
        """Passage lists that need a bank: those of the evaluation sets, in order."""
        return self.passage_texts()

    def bank_key(self, texts: Sequence[str]) -> BankKey:
        """Key of the bank of a passage list under this backbone."""
        spec = self.backbone.spec
        return BankKey(
            encoder_digest=self.backbone.encoder_digest,
            pooling=spec.pooling,
            prefix=spec.passage_prefix,
            max_length=spec.max_length,
            texts_digest=digest_of_texts(texts),
            num_texts=len(texts),
            token_budget=self.token_budget,
        )


@dataclass(frozen=True)
class Inputs(EvaluationInputs):
    """Loaded backbone and texts of one group of trials."""

    tuning: TripletSet
    validation: TripletSet
    towers: Literal["query", "both"]
    """Which ones are tuned."""

    def bank_texts(self) -> list[list[str]]:
        """Passage lists that need a bank: tuning and validation (not if both towers are tuned), the evaluation sets."""
        tuned_on = [self.tuning.passages, self.validation.passages] if self.towers == "query" else []
        return [*tuned_on, *self.passage_texts()]


@dataclass(frozen=True)
class Kit:
    """Inputs in the form that tuning and scoring use: numbers only, cheap to ship and to share."""

    tuning: TuningTriplets
    validation: TuningTriplets
    evaluation: tuple[Prepared, ...]


def prepare(inputs: Inputs, banks: Sequence[np.ndarray]) -> Kit:
    """Tokenise the queries and join them with the banks, given in the order of `Inputs.bank_texts`."""
    tuning, validation = inputs.tuning, inputs.validation
    passages: Sequence[np.ndarray | TokenizedTexts] = banks[:2]
    if inputs.towers == "both":
        passages = [passage_tokens(inputs.backbone, texts.passages) for texts in (tuning, validation)]
    return Kit(
        _tuning_triplets(inputs.backbone, tuning, passages[0]),
        _tuning_triplets(inputs.backbone, validation, passages[1]),
        prepare_sets(inputs, banks[-len(inputs.evaluation) :]),
    )


def passage_tokens(backbone: Backbone, texts: Sequence[str]) -> TokenizedTexts:
    """Token ids of passages, for a passage tower that is tuned."""
    return backbone.tokenize(texts, backbone.spec.passage_prefix)


def prepare_sets(inputs: EvaluationInputs, banks: Sequence[np.ndarray]) -> tuple[Prepared, ...]:
    """Tokenise the queries of the evaluation sets and join them with their banks, in the order of the sets."""
    return tuple(
        _prepared(inputs.backbone, texts, queries, bank)
        for texts, queries, bank in zip(inputs.evaluation, inputs.query_texts(), banks, strict=True)
    )


@dataclass
class Loader:
    """Loads each backbone and each text set once, however many trials name it."""

    _backbones: dict[BackboneSpec, Backbone] = field(default_factory=dict)
    _tuning: dict[TripletSource, tuple[TripletSet, TripletSet]] = field(default_factory=dict)
    _sets: dict[EvaluationSource, TripletSet | PairSet] = field(default_factory=dict)

    def pin(self, trial: TrialSpec) -> TrialSpec:
        """Copy of a trial with the digests of its weights and texts filled in.

        Raises:
            ValueError: something cannot be loaded, or a digest that was given does not match what was found.
        """
        inputs = self.load(trial)
        digest = tuning_digest(inputs.tuning, inputs.validation)
        source = trial.source.model_copy(update={"digest": digest})
        self._tuning[source] = inputs.tuning, inputs.validation  # what is loaded serves the pinned name as well
        untuned = self.pin_untuned(trial.untuned)
        return trial.model_copy(
            update={"backbone": untuned.backbone, "source": source, "evaluation": untuned.evaluation}
        )

    def pin_untuned(self, untuned: UntunedSpec) -> UntunedSpec:
        """Copy with the digests of weights and evaluation texts filled in; as `pin`, without texts to tune on.

        Raises:
            ValueError: as `pin`.
        """
        inputs = self.load_untuned(untuned)
        sets = tuple(
            one.model_copy(update={"digest": texts.digest})
            for one, texts in zip(untuned.evaluation.sets, inputs.evaluation, strict=True)
        )
        backbone = untuned.backbone.model_copy(update={"encoder_digest": inputs.backbone.encoder_digest})
        self._backbones[backbone] = inputs.backbone
        self._sets.update(zip(sets, inputs.evaluation, strict=True))
        return UntunedSpec(backbone=backbone, evaluation=untuned.evaluation.model_copy(update={"sets": sets}))

    def load(self, trial: TrialSpec) -> Inputs:
        """Backbone and texts of a trial; digests that are given are checked.

        Raises:
            ValueError: something cannot be loaded; the message gives the rule, what was got and the fix.
        """
        backbone = self._load_backbone(trial.backbone)
        if trial.source not in self._tuning:
            tuning, validation = load_tuning(trial.source)
            if validation is None:
                raise ValueError(f"{trial.source.name}: tuning needs validation samples, got none; set num_validation")
            self._tuning[trial.source] = tuning, validation
        tuning, validation = self._tuning[trial.source]
        sets = tuple(self._load_set(source) for source in trial.evaluation.sets)
        settings, towers = trial.evaluation, trial.tuning.towers
        return Inputs(backbone, sets, settings.token_budget, settings.precision, tuning, validation, towers)

    def load_untuned(self, untuned: UntunedSpec) -> EvaluationInputs:
        """Backbone and evaluation texts; digests that are given are checked.

        Raises:
            ValueError: as `load`.
        """
        backbone = self._load_backbone(untuned.backbone)
        sets = tuple(self._load_set(source) for source in untuned.evaluation.sets)
        return EvaluationInputs(backbone, sets, untuned.evaluation.token_budget, untuned.evaluation.precision)

    def _load_backbone(self, spec: BackboneSpec) -> Backbone:
        if spec not in self._backbones:
            self._backbones[spec] = load_backbone(spec)
        return self._backbones[spec]

    def _load_set(self, source: EvaluationSource) -> TripletSet | PairSet:
        if source not in self._sets:
            if isinstance(source, Xnli | CldrNames | PairFile):
                self._sets[source] = load_pairs(source)
            else:
                self._sets[source] = load_triplets(source, "evaluation")
        return self._sets[source]


def _tuning_triplets(backbone: Backbone, texts: TripletSet, passages: np.ndarray | TokenizedTexts) -> TuningTriplets:
    """First positive and first negative of each query (paper, Appendix A)."""
    return TuningTriplets(
        backbone.tokenize(texts.queries, backbone.spec.query_prefix),
        texts.positive_rows[texts.positive_offsets[:-1]],
        texts.negative_rows[texts.negative_offsets[:-1]],
        passages,
    )


def _prepared(backbone: Backbone, texts: TripletSet | PairSet, queries: Sequence[str], bank_PD: np.ndarray) -> Prepared:
    tokens = backbone.tokenize(queries, backbone.spec.query_prefix)
    if isinstance(texts, PairSet):
        return PreparedPairs(
            texts.name,
            texts.languages,
            texts.labels,
            tokens,
            bank_PD,
            texts.query_of_pair,
            texts.cluster_of_pair,
            texts.label_of_pair,
        )
    return PreparedTriplets(
        texts.name,
        tokens,
        bank_PD,
        texts.positive_rows,
        texts.positive_offsets,
        texts.negative_rows,
        texts.negative_offsets,
        texts.cluster_of_query.astype(np.int32) if texts.shares_clusters else np.zeros(0, dtype=np.int32),
    )
