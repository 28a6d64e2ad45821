"""Texts of a source: one function for triplets, one for labelled pairs, and the check of a pinned digest.

The kinds of sources live in `hub_data`, `local_data`, `docstrings` and `cldr`; a new kind is a function that yields
`Sample` or `Pair` records, and a line here. Pure functions of the source and the files it names: nothing is printed or
written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from adiabatic_ray.corpora.cldr import CLDR_LABELS, cldr_pairs
from adiabatic_ray.corpora.docstrings import docstring_samples
from adiabatic_ray.corpora.hub_data import (
    XNLI_LABELS,
    hotpot_samples,
    msmarco_samples,
    squad_samples,
    xnli_pairs,
    xnli_samples,
)
from adiabatic_ray.corpora.local_data import arxiv_samples, pair_file_pairs, triplet_file_samples
from adiabatic_ray.corpora.text_sets import PairSet, Part, Sample, TripletSet, build_pairs, build_triplets
from adiabatic_ray.sources import (
    ArxivTriplets,
    CldrNames,
    DocstringTriplets,
    HotpotQa,
    MsMarco,
    PairFile,
    PairSource,
    Source,
    SquadSentences,
    TripletFile,
    TripletSource,
    Xnli,
    XnliTriplets,
)

__all__ = ["PairSet", "Part", "TripletSet", "load_pairs", "load_triplets", "load_tuning", "tuning_digest"]


def load_triplets(source: TripletSource, part: Part) -> TripletSet:
    """Texts of one part of a triplet source.

    A pinned source is checked. For evaluation its digest is that of the evaluation part. For tuning it covers the
    tuning and the validation part, and both are loaded to check it: `load_tuning` gives both at that price.

    Raises:
        ValueError: data missing, unreachable or malformed, parts that would overlap or are empty, or texts that are not
            those the digest names. The message gives the rule, what was got, and the fix.
    """
    if source.digest is None or part == "evaluation":
        loaded = _load(source, part)
        _check(source, loaded.digest)
        return loaded
    tune, validation = load_tuning(source)
    return tune if part == "tune" else validation or _load(source, part)


def load_tuning(source: TripletSource) -> tuple[TripletSet, TripletSet | None]:
    """Tuning and validation part of a triplet source; no validation part when `num_validation` is 0.

    Raises:
        ValueError: as `load_triplets`.
    """
    tune = _load(source, "tune")
    validation = _load(source, "validation") if source.num_validation else None
    _check(source, tuning_digest(tune, validation))
    return tune, validation


def tuning_digest(tune: TripletSet, validation: TripletSet | None) -> str:
    """Digest that pins a source in its role as what is tuned on: SHA-256 over the digests of both parts, in hex."""
    return hashlib.sha256(f"{tune.digest}{validation.digest if validation else ''}".encode()).hexdigest()


def load_pairs(source: PairSource) -> PairSet:
    """Texts of a labelled-pair source, in its languages.

    Raises:
        ValueError: as `load_triplets`; also a language, label or text that is missing, or pairs of one class only.
    """
    match source:
        case Xnli():
            loaded = build_pairs(source.name, source.languages, XNLI_LABELS, xnli_pairs(source))
        case CldrNames():
            loaded = build_pairs(source.name, source.languages, CLDR_LABELS, cldr_pairs(source))
        case PairFile():
            labels, pairs = pair_file_pairs(source)
            loaded = build_pairs(source.name, source.languages, labels, pairs, source.place)
    _check(source, loaded.digest)
    return loaded


def _load(source: TripletSource, part: Part) -> TripletSet:
    samples = _samples(source, part)
    if part == "evaluation":  # the same query twice is no second piece of evidence
        samples = (one if one.cluster is not None else one._replace(cluster=one.query) for one in samples)
    return build_triplets(source.name, samples)


def _samples(source: TripletSource, part: Part) -> Iterator[Sample]:
    match source:
        case MsMarco():
            return msmarco_samples(source, part)
        case SquadSentences():
            return squad_samples(source, part)
        case HotpotQa():
            return hotpot_samples(source, part)
        case ArxivTriplets():
            return arxiv_samples(source, part)
        case DocstringTriplets():
            return docstring_samples(source, part)
        case XnliTriplets():
            return xnli_samples(source, part)
        case TripletFile():
            return triplet_file_samples(source, part)


def _check(source: Source, found: str) -> None:
    if source.digest not in (None, found):
        raise ValueError(
            f"{source.name}: the texts must be those it is pinned to, digest {source.digest}, got {found}; "
            "restore the data (or library versions) it was pinned with, or remove the digest to ask a new question"
        )
