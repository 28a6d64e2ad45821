"""How a search chooses rates: what it looks for, between which rates, how many trials it may take, when it ends.

Two questions. `BoundarySearch`: where does a criterion stop holding? Trials go where they tell most about that, for
each setting of the sweep's grid by itself. `GainSearch`: which rates and settings gain most while least is lost? An
Optuna sampler chooses, and the answer is a Pareto front.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from adiabatic_ray.sources import EvaluationSource, Frozen, Triplets

LEAST_WIDTH_DECADES = 0.01
"""Rates have three digits: neighbours are 0.0004 to 0.004 decades apart; a search needs several between."""


class RateSearch(Frozen):
    """What every search has."""

    lowest_rate: float = Field(gt=0, allow_inf_nan=False, description="no rate below it is tried")
    highest_rate: float = Field(gt=0, allow_inf_nan=False, description="no rate above it is tried")
    max_trials: int = Field(30, ge=1, description="most trials, those of all settings and earlier runs together")
    parallel: int = Field(
        2,
        ge=1,
        description="trials in flight, each chosen without the others' results: more end sooner and tell less each",
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        (0, 1, 2), min_length=1, description="tuning.seed of a rate's first trial, its second, ..."
    )
    set: str = Field(description="name of the evaluation set with language pairs")
    relation: str | None = Field(None, description="e.g. entailment-neutral; none: the set's first")
    measure: Literal["cosine", "distance"] = "cosine"

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.lowest_rate >= self.highest_rate:
            raise ValueError(
                f"rates need lowest_rate < highest_rate, got {self.lowest_rate:g} and {self.highest_rate:g}; swap them"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, got {self.seeds}; remove the repeated one")
        return self

    def openings(self) -> list[dict[str, Any]]:
        """Trials that a setting begins with, first seed: both ends, and between them rates at most a decade apart."""
        decades = math.log10(self.highest_rate / self.lowest_rate)
        num_gaps = max(2, math.ceil(decades - 1e-9))
        between = (self.lowest_rate * 10 ** (decades * place / num_gaps) for place in range(1, num_gaps))
        rates = (self.lowest_rate, *(float(f"{rate:.3g}") for rate in between), self.highest_rate)
        return [{"tuning.learning_rate": rate, "tuning.seed": self.seeds[0]} for rate in dict.fromkeys(rates)]

    def problems_with(self, sets: Sequence[EvaluationSource]) -> list[str]:
        """Why a search can't be made on these evaluation sets, in words; empty: it can."""
        pairs = [source.name for source in sets if not isinstance(source, Triplets)]
        return [] if self.set in pairs else [f"search.set must be one of the labelled pairs {pairs}, got {self.set!r}"]


class BoundarySearch(RateSearch):
    """Looks for the rate where a criterion stops holding, going up."""

    kind: Literal["boundary"] = "boundary"
    criterion: Literal["level", "tolerance", "break-even", "pairs"] = Field(
        "level",
        description="as in analysis/rules.py. level: the mean improvement over language pairs falls below -delta. "
        "tolerance: the lower end of its 95% interval does. break-even: it falls below 0. pairs: more than `share` of "
        "the pairs are degraded",
    )
    delta: float = Field(0.01, ge=0, lt=1, description="loss that is tolerated, relative; of level and tolerance")
    share: float = Field(0.05, ge=0, lt=1, description="language pairs that may be degraded, a fraction; of pairs")
    width_decades: float = Field(
        0.1,
        ge=LEAST_WIDTH_DECADES,
        le=2,
        description="a setting is done when the 95% interval of its crossing is narrower, in log10 of the rate. Seeds "
        "and what lies between rates count; the texts are the same in every trial, and the report adds what they do",
    )


class GainSearch(RateSearch):
    """Looks for rates and settings that gain most on one set and lose least on the language pairs of another."""

    kind: Literal["gain"] = "gain"
    gain_set: str = Field(description="name of the evaluation set of triplets whose gain counts, e.g. the tuned one")
    share: float = Field(0.0, ge=0, lt=1, description="language pairs that may be degraded where nothing is broken")
    sampler: Literal["tpe", "gp", "nsgaii"] = Field("tpe", description="Optuna's")
    sampler_seed: int = Field(0, ge=0, lt=2**31)

    def problems_with(self, sets: Sequence[EvaluationSource]) -> list[str]:
        """As `RateSearch.problems_with`, and of the set whose gain counts."""
        triplets = [source.name for source in sets if isinstance(source, Triplets)]
        problems = super().problems_with(sets)
        if self.gain_set not in triplets:
            problems.append(f"search.gain_set must be one of the triplet sets {triplets}, got {self.gain_set!r}")
        return problems


SearchSpec = Annotated[BoundarySearch | GainSearch, Field(discriminator="kind")]
