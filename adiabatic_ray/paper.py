"""What the paper's experiments share: the default trial, rates, freeze rows, samples an epoch, and a cluster for them.

A sweep file says what it changes and on which axis; everything else stands here once. Vasilyev, Sawaya and Bohannon,
"Preserving Multilingual Quality While Tuning Query Encoder on English Only". Part of what a sweep file may import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adiabatic_ray.changes import with_changes
from adiabatic_ray.search_spec import SearchSpec
from adiabatic_ray.sources import ArxivCategory, ArxivTriplets, EvaluationSource, MsMarco, Xnli
from adiabatic_ray.spec import E5, ClusterSpec, EvaluationSpec, SweepSpec, TrialSpec

RATES = tuple(round(step * 1e-8, 10) for step in range(1, 21))
"""Figures 2, 3 and 11: 1e-8 to 2e-7. Section M.6 counts them: ten from 1e-8 to 1e-7, ten from 1.1e-7 to 2e-7."""
FREEZING_ROWS = (
    "",
    "emb.base",
    "embeddings",
    "embeddings, B0a",
    "embeddings, B0a,i",
    "embeddings, B0a,i,od",
    "embeddings, B0",
    "embeddings, B0-5",
    "embeddings, B0-10",
)
"""Rows of Tables 1 and 4, from nothing frozen to all but the last block. `embeddings` is their `emb`: spelled as in the
default of `TuningSpec.freeze`, so that the same trial has the same id in every sweep."""
BATCH_SIZES = (7, 14, 28, 56, 112)
"""Tables 6 to 11."""
SAMPLES_PER_EPOCH = 14_000
"""Tables 6 to 8 and 10; in the default regime 1,000 batches of 14 (Appendix E)."""
MARGINS = (0.02, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Figures 12 and 13, whose own margins the text does not print: these surround the 0.1 and 0.15 that it discusses."""
ARXIV_METADATA = "${ARXIV_METADATA}"
"""The arXiv metadata snapshot: a download of its own (the paper used version 173)."""
ARXIV_NEGATIVES = "${ARXIV_NEGATIVES}"
"""What `adiabatic data arxiv-negatives` makes of it: its papers are the paper's 253,140 of small categories."""
A100_HOURS_PER_TRIAL = 2.2
"""Section M.6: about 1 h of tuning and 1.2 h of evaluation, one trial after another, on one A100. Packs, shared banks
and several GPUs are not in it: an upper estimate for this project."""
PAPER_CLUSTER = ClusterSpec(
    tuner_cpus=4, tuner_gpus=0.5, pack_size=20, evaluators=2, evaluator_cpus=2, evaluator_gpus=0.25
)
"""One GPU for tuning in packs and for scoring; more GPUs are used as the cluster has them."""


def arxiv_triplets(name: str, **changes: Any) -> ArxivTriplets:
    """The paper's arXiv set: its 253,140 papers, each against a random one (level 21 of arxiv-negatives)."""
    return ArxivTriplets(name=name, path=ARXIV_METADATA, negatives=ARXIV_NEGATIVES, **changes)


def paper_evaluation(excluded_categories: tuple[ArxivCategory, ...] = ()) -> EvaluationSpec:
    """MS MARCO, arXiv in both flavours and XNLI (section 2.2).

    Args:
        excluded_categories: of arXiv, where a tower is tuned on them (Table 5).
    """
    sets: tuple[EvaluationSource, ...] = (
        MsMarco(),
        arxiv_triplets("arxiv-title", flavour="title", excluded_categories=excluded_categories),
        arxiv_triplets("arxiv-first", flavour="first", excluded_categories=excluded_categories),
        Xnli(),
    )
    return EvaluationSpec(sets=sets, token_budget=16_384)


PAPER_TRIAL = TrialSpec(backbone=E5, source=MsMarco(), evaluation=paper_evaluation())
"""The default regime (section 2.3 and Appendix E): E5, embedding block frozen, AdamW at 5e-8, batch 14, margin 0.1."""


def batches_for(batch_size: int) -> int:
    """Batches an epoch that hold `SAMPLES_PER_EPOCH`."""
    return SAMPLES_PER_EPOCH // batch_size


def paper_sweep(
    name: str,
    question: str,
    *,
    changes: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    points: Sequence[Mapping[str, Any]] = (),
    search: SearchSpec | None = None,
) -> SweepSpec:
    """A sweep around the paper's default trial, on its cluster.

    Args:
        name: of the results folder.
        question: in one sentence.
        changes: of the default trial, dotted path inside the trial -> value, for all trials of the sweep.
        grid: see `SweepSpec.grid`.
        points: see `SweepSpec.points`.
        search: see `SweepSpec.search`.

    Raises:
        ValueError: as `SweepSpec`.
    """
    return SweepSpec(
        name=name,
        question=question,
        trial=with_changes(PAPER_TRIAL, changes or {}),
        grid={path: tuple(values) for path, values in (grid or {}).items()},
        points=tuple(dict(point) for point in points),
        search=search,
        cluster=PAPER_CLUSTER,
    )
