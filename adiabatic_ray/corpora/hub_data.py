"""Data sets of the Hugging Face hub: MS MARCO triplets, SQuAD sentences, HotpotQA passages, XNLI pairs.

The files are fetched into the hub's own cache (by repository and revision, once, and from there without a network), or
found in a local folder that holds `owner/name/...` as the hub does; reading them is the same code. Parquet is iterated
with `datasets`, one file at a time, so that a complaint can name file and row. It streams: no second copy of gigabytes
is written, and nothing beside the data. MS MARCO's lines go through this project's own reader, which names the line.
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adiabatic_ray.corpora.local_data import line_samples
from adiabatic_ray.corpora.record_files import (
    ROWS_PER_BATCH,
    Record,
    checked_text,
    count_records,
    local_path,
    read_records,
)
from adiabatic_ray.corpora.sentences import split_sentences
from adiabatic_ray.corpora.text_sets import Pair, Part, Sample, part_range
from adiabatic_ray.sources import XNLI_LANGUAGES, HotpotQa, MsMarco, SquadSentences, Xnli, XnliTriplets

HubSource = MsMarco | SquadSentences | HotpotQa | Xnli

XNLI_LABELS = ("entailment", "neutral", "contradiction")
"""In the order of the hub's numbers 0, 1, 2."""


def hub_files(source: HubSource, pattern: str) -> list[Path]:
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


def _fetched(source: HubSource, pattern: str) -> Path:
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


def hub_records(path: Path) -> Iterator[Record]:
    """Rows of one Parquet file of a hub data set, through `datasets`.

    `IterableDataset.from_parquet` is `load_dataset("parquet", streaming=True)` without its request to the hub, which
    counts a download even for a local file. Rows come as Arrow batches: row by row it takes 3 to 12 times as long.

    Raises:
        ValueError: the file is no Parquet file, or `datasets` cannot read it.
    """
    import datasets  # late: a second, and torch with it

    rows = count_records(path)  # says first, in this project's words, if this is no Parquet file
    row = 0
    try:
        # Its cache holds nothing here but a lock, for which a read-only home has no place. A path is read as a pattern.
        with tempfile.TemporaryDirectory() as cache:
            stream = datasets.IterableDataset.from_parquet(
                glob.escape(str(path)), cache_dir=cache, batch_size=ROWS_PER_BATCH
            )
        for table in stream.with_format("arrow").iter(batch_size=ROWS_PER_BATCH):
            for content in table.to_pylist():
                row += 1
                yield Record(f"{path}, row {row}", content)
    except Exception as error:  # of pyarrow, or of the library's types of features: no part of its interface
        raise ValueError(f"{path}, after row {row}: cannot be read: {error}; replace the file") from error
    assert row == rows, f"{path}: {rows} rows, {row} of them read"


def msmarco_samples(source: MsMarco, part: Part) -> Iterator[Sample]:
    """MS MARCO triplets in file order (paper, Appendix A); `min_negatives=65` gives its harder version of Table 2.

    Raises:
        ValueError: as `hub_files` and `line_samples`.
    """
    (path,) = hub_files(source, source.file)
    return line_samples(source, part, path, source.min_negatives)


def squad_samples(source: SquadSentences, part: Part) -> Iterator[Sample]:
    """SQuAD questions against the sentences of their paragraph (paper, Appendix C).

    Sentences that contain an answer's text are positive, the others negative. Questions without an answer, without a
    positive, or without a negative are left out, and so are paragraphs of fewer than `min_sentences` sentences. The
    paragraphs left are permuted by `split_seed` and cut into parts. Tuning and validation get one triplet a question:
    the first positive, and a negative drawn by the seed and the paragraph's number, so that a longer part only adds to
    a shorter one. Evaluation gets every positive and every negative, and the paragraph as the cluster: its questions
    are asked of the same sentences. Tuning knows no clusters.

    Raises:
        ValueError: a split is missing, or there are fewer paragraphs than the parts together need.
    """
    questions_of: dict[str, list[Sample]] = {}
    sentences_of: dict[str, list[str]] = {}
    for split in source.splits:
        for path in hub_files(source, f"{source.config}/{split}-*.parquet"):
            for record in hub_records(path):
                context = record.text("context")
                if context not in sentences_of:
                    sentences_of[context] = list(dict.fromkeys(split_sentences(context)))
                answers = {text for text in _struct(record, "answers", "text")["text"] if text.strip()}
                sample = _question(record.text("question"), sentences_of[context], answers)
                if len(sentences_of[context]) >= source.min_sentences and sample.positives and sample.negatives:
                    questions_of.setdefault(context, []).append(sample)
    paragraphs = list(questions_of.values())
    chosen = part_range(source, part, len(paragraphs), "paragraphs")
    for number in np.random.default_rng(source.split_seed).permutation(len(paragraphs))[chosen]:
        draw = np.random.default_rng([source.split_seed, number])
        for sample in paragraphs[number]:
            yield sample._replace(cluster=int(number)) if part == "evaluation" else _one_triplet(sample, draw)


def _question(question: str, sentences: list[str], answers: set[str]) -> Sample:
    has_answer = [any(answer in sentence for answer in answers) for sentence in sentences]
    positives = [sentence for sentence, has in zip(sentences, has_answer, strict=True) if has]
    return Sample(question, positives, [sentence for sentence in sentences if sentence not in positives])


def _one_triplet(sample: Sample, draw: np.random.Generator) -> Sample:
    return Sample(sample.query, sample.positives[:1], [sample.negatives[int(draw.integers(len(sample.negatives)))]])


def hotpot_samples(source: HotpotQa, part: Part) -> Iterator[Sample]:
    """HotpotQA questions against their passages (paper, Appendix D).

    Passages that hold a supporting fact are positive, the others negative; a passage is the text of a paragraph without
    its title (the paper is silent on titles). Left out are questions with fewer than `min_passages` passages or without
    a passage of either kind, and those of another `level`. A text counts once for a question, and as positive where it
    stands on both sides: it could only tie with itself. The questions left are permuted by `split_seed` and cut into
    parts. Tuning and validation get one triplet a question, as from SQuAD; evaluation gets every passage.

    Raises:
        ValueError: a split is missing, a record is malformed, or there are fewer questions than the parts need.
    """
    questions = [sample for record in _hotpot_records(source) if (sample := _hotpot_sample(source, record))]
    chosen = part_range(source, part, len(questions), "questions")
    for number in np.random.default_rng(source.split_seed).permutation(len(questions))[chosen]:
        draw = np.random.default_rng([source.split_seed, number])
        yield questions[number] if part == "evaluation" else _one_triplet(questions[number], draw)


def _hotpot_records(source: HotpotQa) -> Iterator[Record]:
    """Records with question, level, texts and is_positive: those of a file, or the hub's brought to that form."""
    if source.path is not None and (path := local_path(source)).is_file():
        yield from read_records(path)
        return
    for split in source.splits:
        for path in hub_files(source, f"{source.config}/{split}-*.parquet"):
            for record in hub_records(path):
                context = _struct(record, "context", "title", "sentences")
                facts = set(_struct(record, "supporting_facts", "title")["title"])
                texts = ["".join(sentences).strip() for sentences in context["sentences"]]
                passages = [(text, title in facts) for text, title in zip(texts, context["title"], strict=True) if text]
                flat = {"texts": [text for text, _ in passages], "is_positive": [positive for _, positive in passages]}
                yield Record(record.place, record.content | flat)


def _hotpot_sample(source: HotpotQa, record: Record) -> Sample | None:
    level, texts, is_positive = record.text("level"), record.value("texts"), record.value("is_positive")
    if not (isinstance(texts, list) and isinstance(is_positive, list) and len(texts) == len(is_positive)):
        raise ValueError(
            f"{record.place}: 'texts' and 'is_positive' must be lists of one length, got {texts!r:.80} and "
            f"{is_positive!r:.80}; give each text its mark"
        )
    if len(texts) < source.min_passages or source.level not in (None, level):
        return None
    sides: dict[bool, list[str]] = {True: [], False: []}
    for text, positive in zip(texts, is_positive, strict=True):
        sides[bool(positive)].append(checked_text(text, record.place, "texts"))
    positives = list(dict.fromkeys(sides[True]))
    negatives = [text for text in dict.fromkeys(sides[False]) if text not in positives]
    return Sample(record.text("question"), positives, negatives) if positives and negatives else None


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
        for record in hub_records(path):
            premise = _struct(record, "premise")
            hypothesis = _by_language(_struct(record, "hypothesis", "language", "translation"))
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


def xnli_samples(source: XnliTriplets, part: Part) -> Iterator[Sample]:
    """XNLI in one language: premise -> the hypothesis that it entails, against the neutral and contradicting ones.

    Premises count as one as in `xnli_pairs`, and are left out where either side is empty. Tuning and validation get one
    triplet a premise, as from SQuAD; evaluation gets every hypothesis.

    Raises:
        ValueError: as `xnli_pairs`, or there are fewer premises than the parts need.
    """
    shared = ("name", "path", "repository", "config", "split", "revision")
    pairs = Xnli(languages=(source.language,), **{field: getattr(source, field) for field in shared})
    sides_of: dict[Hashable, tuple[str, list[str], list[str]]] = {}
    for pair in xnli_pairs(pairs):
        _, positives, negatives = sides_of.setdefault(pair.cluster, (pair.queries[0], [], []))
        (positives if pair.label == XNLI_LABELS[0] else negatives).append(pair.passages[0])
    samples = [Sample(*sides) for sides in sides_of.values() if sides[1] and sides[2]]
    for number in part_range(source, part, len(samples), "premises"):
        draw = np.random.default_rng([source.negative_seed, number])
        yield samples[number] if part == "evaluation" else _one_triplet(samples[number], draw)


def _struct(record: Record, key: str, *fields: str) -> dict[str, Any]:
    value = record.value(key)
    if not isinstance(value, dict) or not value.keys() >= set(fields):
        wanted = " and ".join(repr(field) for field in fields) or "a text by language"
        raise ValueError(
            f"{record.place}: {key!r} must be a struct with {wanted}, as on the hub, got {value!r:.80}; bring the file "
            "of the hub there"
        )
    return value


def _by_language(translations: dict[str, list[str]]) -> dict[str, Any]:
    return dict(zip(translations["language"], translations["translation"], strict=True))


def _in_languages(texts: dict[str, Any], languages: tuple[str, ...], place: str, key: str) -> tuple[str, ...]:
    missing = [language for language in languages if texts.get(language) is None]
    if missing:
        raise ValueError(
            f"{place}: {key!r} must have every language of the source, got no text in {missing}; take them from "
            "`languages`, or repair the file"
        )
    return tuple(checked_text(texts[language], place, f"{key}.{language}") for language in languages)
