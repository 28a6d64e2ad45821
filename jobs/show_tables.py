"""The result tables' documentation as Markdown: what README shows is what the schemas say."""

from __future__ import annotations

from adiabatic_ray.schemas import TABLES

PURPOSES = {
    "trials": "one row a finished trial, written last: it means that the trial is done",
    "evaluations": "one row a tower that was scored without a sweep (`adiabatic evaluate`), written last",
    "curves": "one row an epoch",
    "scores": "one row a statistic: set, relation, measure, language pair",
    "aggregates": "one row a group of language pairs: the mean over its pairs, with its own interval",
    "rankings": "one row a rank measure of a triplet set: the mean over its queries",
    "influence": "per statistic, the change of errors and ranks by cluster: enough to bootstrap any aggregate",
    "untuned": "per statistic, what the untuned backbone counts by cluster; one file for each `untuned_id`",
    "cosines": "one row a set and query language: how far tuning turned the embeddings of a sample of queries",
    "untuned_queries": "one row a sampled query: its untuned embedding; one file for each `untuned_id`",
    "drift": "one row a trainable tensor: what could move and what moved",
}


def tables_markdown() -> str:
    """Every table with its columns: name, type, unit, meaning."""
    parts = []
    for table, schema in TABLES.items():
        lines = [f"**`{table}`**: {PURPOSES[table]}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        for field in schema:
            documentation = field.metadata or {}
            unit, meaning = (documentation[key].decode().replace("|", "\\|") for key in (b"unit", b"meaning"))
            lines.append(f"| `{field.name}` | {field.type} | {unit} | {meaning} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
