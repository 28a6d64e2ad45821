"""The paper's evaluation sets in this project's words, and which of a trial's sets stands beside each.

A trial's set stands for the paper's when it has its name, or is of its kind (for ARXIV the flavour and the level of
difficulty, too). Where the paper evaluates on what it tuned on and a trial was tuned on something else, the trial's own
tuning set stands there. What is different about a set is said in words.
"""

from __future__ import annotations

from typing import Any

from adiabatic_ray.sources import ArxivTriplets, EvaluationSource, HotpotQa, MsMarco, SquadSentences, Xnli
from adiabatic_ray.spec import TrialSpec

from .paper_tables import PaperRow

SETS: dict[str, EvaluationSource] = {
    source.name: source
    for source in (
        MsMarco(),
        ArxivTriplets(name="arxiv-first", flavour="first"),
        ArxivTriplets(name="arxiv-title", flavour="title"),
        Xnli(),
        MsMarco(name="msmarco-65-negatives", min_negatives=65),
        SquadSentences(),
        SquadSentences(name="squad-min-5", min_sentences=5),
        HotpotQa(name="hotpotqa-easy", level="easy"),
        HotpotQa(name="hotpotqa-medium", level="medium"),
        HotpotQa(name="hotpotqa-hard", level="hard"),
    )
}
"""Section 2.2 and Appendices A to F."""
_WHAT_IT_IS = ("kind", "flavour", "level", "min_negatives", "min_sentences")
_SIZES_OF_TUNING = {"num_tune", "num_validation"}
_NOT_CONTENT = {"name", "path", "digest", "revision", "file", "negatives", "negative_seed", "split_seed"}
"""Where a set lies, and draws that the paper does not give."""


def our_set(name: str, row: PaperRow, trial: TrialSpec) -> EvaluationSource | None:
    """The set of a trial that stands beside one of the paper's; None: not evaluated.

    Args:
        name: key of `SETS`.
        row: the paper's row, which says what was tuned on.
        trial: one that belongs to the row.
    """
    sets = trial.evaluation.sets
    by_name = [source for source in sets if source.name == name]
    by_kind = [source for source in sets if _is_same_kind(SETS[name], source)]
    is_tuned = row.settings.get("source.kind") == name
    tuned = [source for source in sets if is_tuned and source.name == trial.source.name]
    return next(iter((*by_name, *by_kind, *tuned)), None)


def set_deviations(name: str, row: PaperRow, trial: TrialSpec) -> list[str]:
    """What is different about the set that stands beside one of the paper's; nothing when it is the same."""
    ours = our_set(name, row, trial)
    if ours is None:
        return [f"set {name}: not evaluated here"]
    theirs = SETS[name]
    if isinstance(theirs, ArxivTriplets):  # Table 5 leaves out what was tuned on
        theirs = theirs.model_copy(update={"excluded_categories": tuple(row.settings.get("source.categories", ()))})
    stands_in = [f"set {name}: {ours.name} stands in its place"] if ours.name != name else []
    return stands_in + [f"set {name}: {line}" for line in _differences(theirs, ours, _NOT_CONTENT | _SIZES_OF_TUNING)]


def source_deviations(row: PaperRow, trial: TrialSpec) -> list[str]:
    """What is different about the texts that were tuned on, beyond their kind."""
    theirs, ours = MsMarco(), trial.source
    if row.settings.get("source.kind") != theirs.kind or not isinstance(ours, MsMarco):
        return []
    unlike = _NOT_CONTENT | {"num_evaluation", "kind"}
    return [f"tuned on {ours.name}: {line}" for line in _differences(theirs, ours, unlike)]


def _is_same_kind(theirs: EvaluationSource, ours: EvaluationSource) -> bool:
    return all(getattr(theirs, field, None) == getattr(ours, field, None) for field in _WHAT_IT_IS)


def _differences(theirs: EvaluationSource, ours: EvaluationSource, left_out: set[str]) -> list[str]:
    """Fields of both in which they differ."""
    fields = [field for field in type(theirs).model_fields if hasattr(ours, field) and field not in left_out]
    return [
        f"{field} {_in_words(getattr(ours, field))} here, {_in_words(getattr(theirs, field))} in the paper"
        for field in fields
        if getattr(ours, field) != getattr(theirs, field)
    ]


def _in_words(value: Any) -> str:
    if value is None:
        return "all"
    if isinstance(value, tuple):
        return f"{len(value)} of them" if len(value) > 4 else ", ".join(value) or "none"
    return str(value)
