"""Prints what a sweep's sources hold."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from adiabatic_ray.corpora.data import PairSet, TripletSet, load_pairs, load_triplets
from adiabatic_ray.sources import CldrNames, PairFile, Xnli
from adiabatic_ray.spec import SweepSpec


def print_data(console: Console, spec: SweepSpec) -> None:
    """One row for each text set of a sweep's trial template.

    Raises:
        ValueError: a set that cannot be loaded.
    """
    table = Table("set", "part", "size", "example", "digest", title=f"texts of {spec.name}")
    for part in ("tune", "validation"):
        _add_triplets(table, part, load_triplets(spec.trial.source, part))
    for source in spec.trial.evaluation.sets:
        if isinstance(source, Xnli | CldrNames | PairFile):
            _add_pairs(table, load_pairs(source))
        else:
            _add_triplets(table, "evaluation", load_triplets(source, "evaluation"))
    console.print(table)


def _add_triplets(table: Table, part: str, texts: TripletSet) -> None:
    clusters = f" in {texts.cluster_of_query.max() + 1:,} clusters" if texts.shares_clusters else ""
    size = f"{len(texts.queries):,} queries{clusters}, {len(texts.passages):,} passages"
    example = "-"
    if texts.queries:
        positive, negative = texts.passages[texts.positive_rows[0]], texts.passages[texts.negative_rows[0]]
        example = f"{texts.queries[0]:.80} | + {positive:.80} | - {negative:.80}"
    table.add_row(texts.name, part, size, example, texts.digest[:12])


def _add_pairs(table: Table, texts: PairSet) -> None:
    language = texts.languages[0]
    size = f"{len(texts.label_of_pair):,} pairs in {len(texts.languages)}^2 language pairs: {', '.join(texts.labels)}"
    query = texts.query_texts[language][texts.query_of_pair[0]]
    label = texts.labels[texts.label_of_pair[0]]
    example = f"{language}: {query:.80} | {texts.passage_texts[language][0]:.80} | {label}"
    table.add_row(texts.name, "evaluation", size, example, texts.digest[:12])
