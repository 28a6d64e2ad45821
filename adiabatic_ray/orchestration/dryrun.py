"""What a sweep would do, without starting Ray: trials, parameter counts, bank sizes, an estimate of the work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.evaluation.prepare import Inputs, Loader
from adiabatic_ray.orchestration.orchestrator import pin_trials, resolutions_of, warnings_of
from adiabatic_ray.spec import SweepSpec, TrialSpec
from adiabatic_ray.statistics.step_resolution import RateResolution, by_rate
from adiabatic_ray.tuning.tune import trainable_names

SAMPLED_TEXTS = 1000
"""Texts tokenised to estimate the mean length of a list."""


@dataclass(frozen=True)
class FreezeCount:
    """Weights that a freeze plan lets train, and holds."""

    freeze: str
    towers: str
    """query, or both: weights of both are counted then."""
    num_trainable: int
    num_frozen: int


@dataclass(frozen=True)
class BankEstimate:
    """One passage bank: texts, bytes of its float32 embeddings, tokens to encode once."""

    name: str
    num_texts: int
    num_bytes: int
    num_tokens: int


@dataclass(frozen=True)
class DryRun:
    """The plan of a sweep."""

    trials: tuple[TrialSpec, ...]
    """Of a search those that it begins with."""
    most_trials: int
    freezing: tuple[FreezeCount, ...]
    banks: tuple[BankEstimate, ...]
    tuning_tokens_per_epoch: int
    """Query tokens of one epoch of the first trial; a training step costs about three forward passes."""
    evaluation_tokens: int
    """Query tokens of one evaluation."""
    num_both: int
    """Trials that tune both towers."""
    passage_tokens_per_epoch: int
    """Passage tokens of one epoch of the first of them; 0 where there is none: passages come from banks."""
    evaluation_passage_tokens: int
    """Passage tokens of its evaluation."""
    resolution: tuple[RateResolution, ...]
    """What steps can move in float32, by rate and precision."""
    warnings: tuple[str, ...]
    """What `run_sweep` would warn of."""
    flops_per_token: int
    """Forward pass: two operations for each weight outside the embedding block."""

    def total_flops(self, num_epochs: int) -> float:
        """Work of the whole sweep, if every trial tunes for so many epochs: banks, untuned scores, tuning, scores."""
        per_trial = 3 * self.tuning_tokens_per_epoch * num_epochs + self.evaluation_tokens
        of_passages = 3 * self.passage_tokens_per_epoch * num_epochs + self.evaluation_passage_tokens
        tokens = sum(bank.num_tokens for bank in self.banks) + self.evaluation_tokens
        tokens += per_trial * self.most_trials + of_passages * (self.num_both * self.most_trials // len(self.trials))
        return float(tokens) * self.flops_per_token


def dry_run(spec: SweepSpec) -> DryRun:
    """Load backbone and texts, expand and count. Nothing is encoded or written.

    Raises:
        ValueError: as `run_sweep` would.
    """
    loader = Loader()
    trials = pin_trials(spec, loader)
    freezing, banks = {}, {}
    resolutions = resolutions_of(trials, loader)
    for trial in trials:
        inputs = loader.load(trial)
        weights = inputs.backbone.weights
        tuning, tunes_both = trial.tuning, trial.tuning.towers == "both"
        counts = [
            sum(weights[name].size for name in names) * (2 if tunes_both else 1)
            for names in trainable_names(inputs.backbone, tuning.freeze)
        ]
        freezing[tuning.freeze, tuning.towers] = FreezeCount(tuning.freeze, tuning.towers, *counts)
        names = [] if tunes_both else [f"{trial.source.name} (tuning)", f"{trial.source.name} (validation)"]
        names += [source.name for source in trial.evaluation.sets]
        for name, texts in zip(names, inputs.bank_texts(), strict=True):
            if (inputs.backbone.encoder_digest, name) not in banks:
                banks[inputs.backbone.encoder_digest, name] = _bank_estimate(inputs, name, texts)
    first = loader.load(trials[0])
    prefix = first.backbone.spec.query_prefix
    tuning = trials[0].tuning
    per_query = _mean_tokens(first.backbone, first.tuning.queries, prefix)
    both = [trial for trial in trials if trial.tuning.towers == "both"]
    return DryRun(
        tuple(trials),
        spec.most_trials,
        tuple(freezing.values()),
        tuple(banks.values()),
        int(per_query * tuning.batch_size * tuning.batches_per_epoch),
        sum(int(_mean_tokens(first.backbone, queries, prefix) * len(queries)) for queries in first.query_texts()),
        len(both),
        *(_passage_tokens(both[0], loader.load(both[0])) if both else (0, 0)),
        tuple(by_rate(resolutions)),
        tuple(warnings_of(resolutions)),
        2 * sum(array.size for name, array in first.backbone.weights.items() if "embedding" not in name),
    )


def _passage_tokens(trial: TrialSpec, inputs: Inputs) -> tuple[int, int]:
    """Passage tokens that a trial of both towers encodes: in an epoch, and for its evaluation."""
    tuning, prefix = trial.tuning, inputs.backbone.spec.passage_prefix
    per_sample = 2 * _mean_tokens(inputs.backbone, inputs.tuning.passages, prefix)
    evaluated = sum(int(_mean_tokens(inputs.backbone, texts, prefix) * len(texts)) for texts in inputs.passage_texts())
    return int(per_sample * tuning.batch_size * tuning.batches_per_epoch), evaluated


def _bank_estimate(inputs: Inputs, name: str, texts: list[str]) -> BankEstimate:
    mean = _mean_tokens(inputs.backbone, texts, inputs.backbone.spec.passage_prefix)
    return BankEstimate(name, len(texts), len(texts) * inputs.backbone.embedding_size * 4, int(mean * len(texts)))


def _mean_tokens(backbone: Backbone, texts: list[str], prefix: str) -> float:
    """Mean tokens of a text, from an evenly spaced sample."""
    places = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), SAMPLED_TEXTS)).astype(int))
    return float(backbone.tokenize([texts[place] for place in places], prefix).lengths().mean())
