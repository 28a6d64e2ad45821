"""Data sets of the Hugging Face hub: MS MARCO triplets, SQuAD sentences, XNLI pairs.

The files are fetched into the hub's own cache (by repository and revision, once, and from there without a network), or
found in a local folder that holds `owner/name/...` as the hub does; reading them is the same code. They are read with
pyarrow and not through `datasets`: that would write a second copy of gigabytes, and finds files given by pattern again
only with a network. Nothing is ever written beside the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adiabatic_ray.local_data import line_samples
from adiabatic_ray.record_files import checked_text, local_path, read_records
from adiabatic_ray.sentences import split_sentences
from adiabatic_ray.sources import XNLI_LANGUAGES, MsMarco, SquadSentences, Xnli
from adiabatic_ray.text_sets import Pair, Part, Sample, part_range

XNLI_LABELS = ("entailment", "neutral", "contradiction")
"""In the order of the hub's numbers 0, 1, 2."""


def hub_files(source: MsMarco | SquadSentences | Xnli, pattern: str) -> list[Path]:
    """Files of a hub data set that match a pattern, sorted by name; fetched when the source has no `path`.

    Raises:
        ValueError: the hub cannot be reached, the local folder is not there, or no file matches.
    """
    if source.path is None:
        folder = _fetched(source, pattern)
    else:
        folder = local_path(source) / source.repository
        if not folder.is_dir():
            raise ValueError(
                f"{source.name}: `path` must be the folder that holds {source.repository}/..., got {source.path!r}, "
                f"where {folder} is no folder; correct `path`, or leave it out to fetch from the hub"
            )
    files = sorted(folder.glob(pattern))
    if not files:
        there = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        raise ValueError(
            f"{source.name}: {source.repository} must have {pattern}, got {there[:8]}; name a split, config or file "
            "that is there, or bring the missing one"
        )
    return files


def _fetched(source: MsMarco | SquadSentences | Xnli, pattern: str) -> Path:
    # Late: local copies need no hub client, which takes a third of a second to import.
    import huggingface_hub

    at = source.revision or "the newest revision"
    try:
        return Path(
            huggingface_hub.snapshot_download(
                source.repository, repo_type="dataset", revision=source.revision, allow_patterns=[pattern]
            )
        )
    except Exception as error:  # the client's HTTP library has errors of its own, which are no part of its interface
        raise ValueError(
            f"{source.name}: {source.repository} at {at} must be on the hub or in its cache, got "
            f"{type(error).__name__}: {error}; connect to the hub, or set `path` to a folder that holds "
            f"{source.repository}/{pattern}"
        ) from error


def msmarco_samples(source: MsMarco, part: Part) -> Iterator[Sample]:
    """MS MARCO triplets in file order (paper, Appendix A).

    Raises:
        ValueError: as `hub_files` and `line_samples`.
    """
    (path,) = hub_files(source, source.file)
    return line_samples(source, part, path)


def squad_samples(source: SquadSentences, part: Part) -> Iterator[Sample]:
    """SQuAD questions against the sentences of their paragraph (paper, Appendix C).

    Sentences that contain an answer's text are positive, the others negative. Questions without an answer, without a
    positive, or without a negative are left out, and so are paragraphs of fewer than `min_sentences` sentences. The
    paragraphs left are permuted by `split_seed` and cut into parts. Tuning and validation get one triplet a question:
    the first positive, and a negative drawn by the seed and the paragraph's number, so that a longer part only adds to
    a shorter one. Evaluation gets every positive and every negative.

    Raises:
        ValueError: a split is missing, or there are fewer paragraphs than the parts together need.
    """
    questions_of: dict[str, list[Sample]] = {}
    sentences_of: dict[str, list[str]] = {}
    for split in source.splits:
        for path in hub_files(source, f"{source.config}/{split}-*.parquet"):
            for record in read_records(path):
                context = record.text("context")
                if context not in sentences_of:
                    sentences_of[context] = list(dict.fromkeys(split_sentences(context)))
                answers = {text for text in record.value("answers")["text"] if text.strip()}
                sample = _question(record.text("question"), sentences_of[context], answers)
                if len(sentences_of[context]) >= source.min_sentences and sample.positives and sample.negatives:
                    questions_of.setdefault(context, []).append(sample)
    paragraphs = list(questions_of.values())
    chosen = part_range(source, part, len(paragraphs), "paragraphs")
    for number in np.random.default_rng(source.split_seed).permutation(len(paragraphs))[chosen]:
        draw = np.random.default_rng([source.split_seed, number])
        for question, positives, negatives in paragraphs[number]:
            if part == "evaluation":
                yield Sample(question, positives, negatives)
            else:
                yield Sample(question, positives[:1], [negatives[draw.integers(len(negatives))]])


def _question(question: str, sentences: list[str], answers: set[str]) -> Sample:
    has_answer = [any(answer in sentence for answer in answers) for sentence in sentences]
    positives = [sentence for sentence, has in zip(sentences, has_answer, strict=True) if has]
    return Sample(question, positives, [sentence for sentence in sentences if sentence not in positives])


def xnli_pairs(source: Xnli) -> Iterator[Pair]:
    """XNLI pairs (paper, Appendix F): the premise is the query, the hypothesis the passage, the premise the cluster.

    Premises count as one when they read the same in all 15 languages, whichever of them are asked for. `num_premises`
    keeps the first so many in file order, with all their pairs.

    Raises:
        ValueError: a language or split is missing, a label is unknown, a text is empty, or there are too few premises.
    """
    unknown = [language for language in source.languages if language not in XNLI_LANGUAGES]
    if unknown:
        raise ValueError(f"{source.name}: XNLI has {', '.join(XNLI_LANGUAGES)}; got {unknown}; remove them")
    number_of: dict[tuple[str, ...], int] = {}
    for path in hub_files(source, f"{source.config}/{source.split}-*.parquet"):
        for record in read_records(path):
            premise = record.value("premise")
            hypothesis = _by_language(record.value("hypothesis"))
            key = tuple(premise.get(language) or "" for language in XNLI_LANGUAGES)
            cluster = number_of.setdefault(key, len(number_of))
            if source.num_premises is not None and cluster >= source.num_premises:
                continue
            label = record.value("label")
            if label not in range(len(XNLI_LABELS)):
                raise ValueError(f"{record.place}: 'label' must be 0, 1 or 2, got {label!r}; use a labelled split")
            yield Pair(
                _in_languages(premise, source.languages, record.place, "premise"),
                _in_languages(hypothesis, source.languages, record.place, "hypothesis"),
                XNLI_LABELS[label],
                cluster,
            )
    if source.num_premises is not None and len(number_of) < source.num_premises:
        raise ValueError(
            f"{source.name}: num_premises may be at most the {len(number_of)} there are, got {source.num_premises}; "
            "lower it"
        )


def _by_language(translations: dict[str, list[str]]) -> dict[str, Any]:
    return dict(zip(translations["language"], translations["translation"], strict=True))


def _in_languages(texts: dict[str, Any], languages: tuple[str, ...], place: str, key: str) -> tuple[str, ...]:
    return tuple(checked_text(texts.get(language), place, f"{key}.{language}") for language in languages)
