"""From a trial's specification to what its work needs: backbone, texts, token ids, rows of passage banks.

Everything here is shared by all trials with the same backbone, source and evaluation sets (a group). Loading also pins
the specification: digests of weights and texts are filled in, so that a trial's id speaks of content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from adiabatic_ray.backbones import Backbone, load_backbone
from adiabatic_ray.bank import BankKey, digest_of_texts
from adiabatic_ray.data import PairSet, TripletSet, load_pairs, load_triplets, load_tuning, tuning_digest
from adiabatic_ray.evaluate import Prepared, PreparedPairs, PreparedTriplets
from adiabatic_ray.sources import CldrNames, EvaluationSource, PairFile, TripletSource, Xnli
from adiabatic_ray.spec import BackboneSpec, TrialSpec
from adiabatic_ray.tune import TuningTriplets


@dataclass(frozen=True)
class Inputs:
    """Loaded backbone and texts of one group of trials."""

    backbone: Backbone
    tuning: TripletSet
    validation: TripletSet
    evaluation: tuple[TripletSet | PairSet, ...]
    token_budget: int

    def bank_texts(self) -> list[list[str]]:
        """Passage lists that need a bank: tuning, validation, then the evaluation sets in order."""
        lists = [self.tuning.passages, self.validation.passages]
        for texts in self.evaluation:
            if isinstance(texts, PairSet):
                lists.append([text for language in texts.languages for text in texts.passage_texts[language]])
            else:
                lists.append(texts.passages)
        return lists

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
class Kit:
    """Inputs in the form that tuning and scoring use: numbers only, cheap to ship and to share."""

    tuning: TuningTriplets
    validation: TuningTriplets
    evaluation: tuple[Prepared, ...]


def prepare(inputs: Inputs, banks: Sequence[np.ndarray]) -> Kit:
    """Tokenise the queries and join them with the banks, given in the order of `Inputs.bank_texts`."""
    tuning_bank, validation_bank, *evaluation_banks = banks
    return Kit(
        _tuning_triplets(inputs.backbone, inputs.tuning, tuning_bank),
        _tuning_triplets(inputs.backbone, inputs.validation, validation_bank),
        tuple(
            _prepared(inputs.backbone, texts, bank)
            for texts, bank in zip(inputs.evaluation, evaluation_banks, strict=True)
        ),
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
        sets = tuple(
            one.model_copy(update={"digest": texts.digest})
            for one, texts in zip(trial.evaluation.sets, inputs.evaluation, strict=True)
        )
        backbone = trial.backbone.model_copy(update={"encoder_digest": inputs.backbone.encoder_digest})
        self._backbones[backbone] = inputs.backbone  # what is loaded serves the pinned names as well
        self._tuning[source] = inputs.tuning, inputs.validation
        self._sets.update(zip(sets, inputs.evaluation, strict=True))
        evaluation = trial.evaluation.model_copy(update={"sets": sets})
        return trial.model_copy(update={"backbone": backbone, "source": source, "evaluation": evaluation})

    def load(self, trial: TrialSpec) -> Inputs:
        """Backbone and texts of a trial; digests that are given are checked.

        Raises:
            ValueError: something cannot be loaded; the message gives the rule, what was got and the fix.
        """
        if trial.backbone not in self._backbones:
            self._backbones[trial.backbone] = load_backbone(trial.backbone)
        if trial.source not in self._tuning:
            tuning, validation = load_tuning(trial.source)
            if validation is None:
                raise ValueError(f"{trial.source.name}: tuning needs validation samples, got none; set num_validation")
            self._tuning[trial.source] = tuning, validation
        tuning, validation = self._tuning[trial.source]
        return Inputs(
            self._backbones[trial.backbone],
            tuning,
            validation,
            tuple(self._load_set(source) for source in trial.evaluation.sets),
            trial.evaluation.token_budget,
        )

    def _load_set(self, source: EvaluationSource) -> TripletSet | PairSet:
        if source not in self._sets:
            if isinstance(source, Xnli | CldrNames | PairFile):
                self._sets[source] = load_pairs(source)
            else:
                self._sets[source] = load_triplets(source, "evaluation")
        return self._sets[source]


def _tuning_triplets(backbone: Backbone, texts: TripletSet, bank_PD: np.ndarray) -> TuningTriplets:
    """First positive and first negative of each query (paper, Appendix A)."""
    return TuningTriplets(
        backbone.tokenize(texts.queries, backbone.spec.query_prefix),
        texts.positive_rows[texts.positive_offsets[:-1]],
        texts.negative_rows[texts.negative_offsets[:-1]],
        bank_PD,
    )


def _prepared(backbone: Backbone, texts: TripletSet | PairSet, bank_PD: np.ndarray) -> Prepared:
    prefix = backbone.spec.query_prefix
    if isinstance(texts, PairSet):
        queries = [text for language in texts.languages for text in texts.query_texts[language]]
        return PreparedPairs(
            texts.name,
            texts.languages,
            texts.labels,
            backbone.tokenize(queries, prefix),
            bank_PD,
            texts.query_of_pair,
            texts.cluster_of_pair,
            texts.label_of_pair,
        )
    return PreparedTriplets(
        texts.name,
        backbone.tokenize(texts.queries, prefix),
        bank_PD,
        texts.positive_rows,
        texts.positive_offsets,
        texts.negative_rows,
        texts.negative_offsets,
    )
