"""The model card of an exported trial: README.md with a YAML head that the Hugging Face hub reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adiabatic_ray.sources import EvaluationSource
from adiabatic_ray.spec import BackboneSpec, TrialSpec

from .reporting import Figure, boundary_lines, evaluation_lines, table_lines

if TYPE_CHECKING:
    from adiabatic_ray.encoders.export import Exported


def model_card(
    folder_name: str,
    trial: TrialSpec,
    row: Mapping[str, Any],
    exported: Exported,
    figures: Sequence[Figure],
    boundaries: Sequence[Mapping[str, Any]],
) -> str:
    """The whole file.

    Args:
        folder_name: what a reader loads, as in `SentenceTransformer("folder_name")`.
        trial: the specification as it was run.
        row: the trial's row of the `trials` table.
        exported: what lies beside the card.
        figures: of the evaluation.
        boundaries: of the sweep's report, see `read_boundaries`.
    """
    tuned = "query tower tuned" if trial.tuning.towers == "query" else "query and passage tower tuned"
    title = f"{backbone_name(trial.backbone)}, {tuned}"
    lines = [f"# {title}", "", *_what_it_is(row, exported), "", "## Use", "", *_usage(folder_name, trial, exported)]
    lines += ["", "## Evaluation", "", *evaluation_lines(figures)]
    if boundaries:
        lines += [
            "## How far this backbone may be tuned",
            "",
            f"From the sweep `{row['sweep']}` that this trial is part of:",
            "",
            *boundary_lines(boundaries, trial.tuning.learning_rate),
            "",
        ]
    lines += ["## Specification", "", *_specification(trial, row)]
    return f"---\n{_head(trial, row, figures)}---\n\n" + "\n".join(lines)


def backbone_name(backbone: BackboneSpec) -> str:
    """Name without the path of a local folder, which is nobody else's business."""
    return backbone.short_name if backbone.source == "folder" else backbone.name


def _head(trial: TrialSpec, row: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    sources = {source.name: source for source in trial.evaluation.sets}
    results = [
        EvalResult(
            task_type="sentence-similarity",
            dataset_type=_repository(sources[figure.set]) or figure.set,
            dataset_name=figure.set,
            dataset_config=figure.relation,
            metric_type=kind,
            metric_name=f"{words}, {figure.measure}",
            metric_value=value,
        )
        for figure in figures
        for kind, words, value in (
            ("pnd", "PND", figure.pnd_tuned),
            ("pnd_untuned", "PND of the untuned query tower", figure.pnd_untuned),
            ("improvement", "improvement of PND", figure.improvement),
            ("improvement_low", "improvement of PND, lower end of the 95% interval", figure.low),
            ("improvement_high", "improvement of PND, upper end of the 95% interval", figure.high),
        )
        if math.isfinite(value)
    ]
    repository = _repository(trial.source)
    data = ModelCardData(
        base_model=trial.backbone.name if trial.backbone.source == "hub" else None,
        datasets=[repository] if repository else None,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "adiabatic-ray"],
        model_name=row["trial_id"],
        eval_results=results or None,
    )
    text: str = data.to_yaml()
    return text + "\n"


def _repository(source: EvaluationSource) -> str | None:
    """Hub repository of a source that has one."""
    found: str | None = getattr(source, "repository", None)
    return found


def _what_it_is(row: Mapping[str, Any], exported: Exported) -> list[str]:
    differ = (
        f"{exported.num_changed} of {exported.num_tensors} tensors of the query tower differ from the untuned one's."
    )
    if not exported.num_changed:
        differ = "Not one tensor of the query tower differs from the untuned one's: no step was kept that changed any."
    passages = (
        "the passage tower is the untuned encoder, so passage embeddings that were made with that encoder stay valid"
    )
    if exported.num_passage_changed:
        passages = (
            f"and so was the passage tower ({exported.num_passage_changed} tensors): passages must be embedded with "
            "it, embeddings of the untuned encoder do not fit"
        )
    return [
        f"Two encoders for retrieval: the query tower was tuned, {passages}. Made by adiabatic_ray, trial "
        f"`{row['trial_id']}`.",
        "",
        f"{differ} A tower holds {_megabytes(exported.tower_bytes)} in float32; tensors that both share are one file "
        f"under two names, {_megabytes(exported.size_bytes)} on disk in all. Copied without hard links it is more.",
    ]


def _usage(folder_name: str, trial: TrialSpec, exported: Exported) -> list[str]:
    backbone = trial.backbone
    arguments = "".join(f", {name}={value}" for name, value in exported.model_arguments.items())
    pooled = {"mean": "mean over the tokens that the attention mask shows", "cls": "first token"}[backbone.pooling]
    prefixes = (
        f"`{backbone.query_prefix!r}` before a query, `{backbone.passage_prefix!r}` before a passage; "
        "`encode_query` and `encode_document` put them there"
    )
    return [
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{folder_name}")',
        'queries = model.encode_query(["how far may a query encoder be tuned?"])',
        'passages = model.encode_document(["As far as the other languages hold."])',
        "model.similarity(queries, passages)  # cosine",
        "```",
        "",
        "`encode` without a task is an error: it could only guess the tower.",
        "",
        "The query tower by itself, where passages are embedded already; `encode` is `encode_query` there:",
        "",
        "```python",
        f'query_model = SentenceTransformer("{folder_name}/query")',
        "",
        f"from transformers import AutoTokenizer, {exported.model_class}",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{folder_name}/query")',
        f'encoder = {exported.model_class}.from_pretrained("{folder_name}/query"{arguments})',
        "```",
        "",
        f"- Pooling: {pooled}, prefix included.",
        f"- Prefixes: {prefixes if backbone.query_prefix or backbone.passage_prefix else 'none'}.",
        f"- Length: {backbone.max_length} tokens, special ones included; longer texts are cut.",
        "- Embeddings are not normalised: cosine does not need it, and Euclidean distances are about them as they are.",
    ]


def _specification(trial: TrialSpec, row: Mapping[str, Any]) -> list[str]:
    settings = type(trial.tuning).model_fields
    tuning = trial.tuning.model_dump(mode="json")
    rows = [[name, f"{tuning[name]}", settings[name].description or ""] for name in settings]
    backbone, provenance = trial.backbone, json.loads(row["provenance_json"])
    versions = ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items() if version)
    revision = f", revision {backbone.revision}" if backbone.revision else ""
    return [
        f"- Backbone: {backbone_name(backbone)} ({backbone.source}{revision}), digest `{row['encoder_digest']}`",
        f"- Tuned on: {trial.source.name} ({type(trial.source).__name__}), {row['num_steps']:,} steps in "
        f"{row['num_epochs']:,} epochs, stopped by {row['stopped_by']}; the state after epoch {row['kept_epoch']} "
        "was kept",
        f"- Weights: {row['num_trainable']:,} trained, {row['num_frozen']:,} frozen",
        f"- Tuned by: commit {provenance.get('commit') or 'not recorded'}; {versions or 'versions not recorded'}",
        "",
        *table_lines(["setting", "value", "meaning"], rows, "<><"),
        "",
        "All that decides the result, without settings that have their default:",
        "",
        "```json",
        json.dumps(json.loads(trial.canonical()), indent=1, ensure_ascii=False),
        "```",
        "",
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
