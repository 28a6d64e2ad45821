"""Hub data sets from local copies in the hub's layout, from a stand-in for the hub's client, and the real ones."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
from collections import Counter
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from adiabatic_ray.corpora.data import load_pairs, load_triplets
from adiabatic_ray.corpora.hub_data import hub_records
from adiabatic_ray.corpora.record_files import read_records
from adiabatic_ray.sources import XNLI_LANGUAGES, MsMarco, SquadSentences, Xnli, XnliTriplets

EVERYTHING = {"num_tune": None, "num_validation": 0, "num_evaluation": None}


def write_msmarco(root: Path, num_lines: int) -> None:
    folder = root / "sentence-transformers/embedding-training-data"
    folder.mkdir(parents=True)
    rows = [
        {"query": f"q{n}", "pos": [f"p{n}", f"pp{n}"], "neg": [f"n{n}.{m}" for m in range(3)]} for n in range(num_lines)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "msmarco-triplets.jsonl.gz").write_bytes(gzip.compress(lines.encode()))


def write_squad(root: Path, split: str, rows: list[tuple[str, str, list[str]]]) -> None:
    folder = root / "rajpurkar/squad_v2/squad_v2"
    folder.mkdir(parents=True, exist_ok=True)
    table = [
        {"context": context, "question": question, "answers": {"text": answers, "answer_start": [0] * len(answers)}}
        for context, question, answers in rows
    ]
    pq.write_table(pa.Table.from_pylist(table), folder / f"{split}-00000-of-00001.parquet")


def write_xnli(root: Path, premises: list[str], labels: list[int] | None = None) -> None:
    """One row a premise and label; the texts name their language, so that a mix-up shows."""
    folder = root / "facebook/xnli/all_languages"
    folder.mkdir(parents=True)
    rows = [
        {
            "premise": {language: f"{premise} {language}" for language in XNLI_LANGUAGES},
            "hypothesis": {  # as in the real files, the languages of a hypothesis are a list of their own
                "language": XNLI_LANGUAGES[::-1],
                "translation": [f"h{place} {language}" for language in XNLI_LANGUAGES[::-1]],
            },
            "label": label,
        }
        for place, (premise, label) in enumerate(itertools.product(premises, labels or [2, 0, 1]))
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")


# MS MARCO ----------------------------------------------------------------------------------------------------------


def test_msmarco_by_order(tmp_path):
    write_msmarco(tmp_path, 10)
    source = MsMarco(path=str(tmp_path), num_tune=4, num_validation=2, num_evaluation=3)
    tune, validation, evaluation = (load_triplets(source, part) for part in ("tune", "validation", "evaluation"))
    assert tune.queries == ["q0", "q1", "q2", "q3"] and tune.passages[:4] == ["p0", "n0.0", "p1", "n1.0"]
    assert validation.queries == ["q4", "q5"] and len(validation.passages) == 4
    assert evaluation.queries == ["q7", "q8", "q9"]
    assert np.diff(evaluation.positive_offsets).tolist() == [2] * 3
    assert np.diff(evaluation.negative_offsets).tolist() == [3] * 3


def test_msmarco_file_too_short_for_the_papers_split(tmp_path):
    write_msmarco(tmp_path, 10)
    with pytest.raises(ValueError) as caught:
        load_triplets(MsMarco(path=str(tmp_path)), "evaluation")
    for said in ("10 samples", "num_tune=487983, num_validation=4200, num_evaluation=7000", "499183"):
        assert said in str(caught.value)


def test_msmarco_with_many_negatives(tmp_path):
    """The paper's 65, at 3: the parts stay where they are, and lose their easier samples."""
    folder = tmp_path / "sentence-transformers/embedding-training-data"
    folder.mkdir(parents=True)
    sizes = [3, 1, 3, 3, 2, 4, 2, 3, 1]
    rows = [{"query": f"q{n}", "pos": ["p"], "neg": ["n"] * size} for n, size in enumerate(sizes)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "msmarco-triplets.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    source = MsMarco(path=str(tmp_path), num_tune=3, num_validation=1, num_evaluation=4, min_negatives=3)
    assert load_triplets(source, "tune").queries == ["q0", "q2"]
    assert load_triplets(source, "validation").queries == ["q3"]
    assert load_triplets(source, "evaluation").queries == ["q5", "q7"]
    with pytest.raises(
        ValueError, match=r"msmarco \(.*\): min_negatives may be at most the 4 that a sample for evaluation has"
    ):
        load_triplets(source.model_copy(update={"min_negatives": 65}), "evaluation")


@pytest.mark.realdata
def test_real_msmarco_65_negatives(real_data):
    source = MsMarco(path=str(real_data / "hub"), num_tune=2000, num_validation=0, num_evaluation=700)
    texts = load_triplets(source.model_copy(update={"min_negatives": 65}), "evaluation")
    assert np.diff(texts.negative_offsets).tolist() == [65] * 400
    assert texts.queries == load_triplets(source, "evaluation").queries[-400:]


@pytest.mark.realdata
def test_real_msmarco(real_data):
    source = MsMarco(path=str(real_data / "hub"), num_tune=2000, num_validation=400, num_evaluation=700)
    tune = load_triplets(source, "tune")
    assert len(tune.queries) == len(tune.positive_rows) == len(tune.negative_rows) == 2000
    evaluation = load_triplets(source, "evaluation")
    negatives = np.diff(evaluation.negative_offsets)
    assert (negatives[-400:] == 65).all() and (negatives[:-400] == 8).all()
    assert not set(evaluation.queries) & set(tune.queries)


# SQuAD -------------------------------------------------------------------------------------------------------------

FOUR = "Ada was born in London. Ada died in 1852. Bo lived in Paris. London is large."
ONE = "Only one sentence with an answer."
TWO = "Cats purr. Dogs bark."


def test_squad_by_hand(tmp_path):
    rows = [
        (FOUR, "Where was Ada born?", ["London", "in London"]),
        (FOUR, "When did Ada die?", ["1852"]),
        (FOUR, "Why?", []),  # not answerable
        (FOUR, "Across?", ["1852. Bo"]),  # no sentence holds it
        (FOUR, "All?", ["a"]),  # every sentence does
        (ONE, "One?", ["answer"]),
    ]
    write_squad(tmp_path, "validation", rows)
    source = SquadSentences(path=str(tmp_path), splits=("validation",))
    texts = load_triplets(source, "evaluation")
    sentences = ["Ada was born in London.", "Ada died in 1852.", "Bo lived in Paris.", "London is large."]
    assert texts.queries == ["Where was Ada born?", "When did Ada die?"]
    assert sorted(texts.passages) == sorted(sentences)
    assert [texts.passages[row] for row in texts.positive_rows] == [sentences[0], sentences[3], sentences[1]]
    assert [texts.passages[row] for row in texts.negative_rows] == [*sentences[1:3], sentences[0], *sentences[2:]]

    assert texts.cluster_of_query.tolist() == [0, 0]

    tuned = source.model_copy(update={"num_tune": 1})
    one_each = load_triplets(tuned, "tune")
    assert one_each.cluster_of_query.tolist() == [0, 1], "nothing is tested while tuning"
    assert np.diff(one_each.positive_offsets).tolist() == np.diff(one_each.negative_offsets).tolist() == [1, 1]
    assert [one_each.passages[row] for row in one_each.positive_rows] == sentences[:2]
    first, second = (one_each.passages[row] for row in one_each.negative_rows)
    assert first in sentences[1:3] and second in (sentences[0], *sentences[2:])


def test_squad_paragraphs_are_held_out_whole(tmp_path):
    rows = [
        (f"{n} purrs. {n} barks. {n} sings.", f"{n}, {q}?", [f"{n} {q}"]) for n in range(20) for q in ("purrs", "sings")
    ]
    write_squad(tmp_path, "train", rows[:24])
    write_squad(tmp_path, "validation", rows[24:])
    source = SquadSentences(path=str(tmp_path), num_tune=8, num_validation=4, num_evaluation=6)
    paragraphs = []
    for part, size in (("tune", 8), ("validation", 4), ("evaluation", 6)):
        texts = load_triplets(source, part)
        queries = texts.queries
        assert len(queries) == 2 * size
        in_twos = np.repeat(np.arange(size), 2) if part == "evaluation" else np.arange(2 * size)
        assert texts.cluster_of_query.tolist() == in_twos.tolist()
        paragraphs.append({query.partition(",")[0] for query in queries})
        assert len(paragraphs[-1]) == size
    assert len(set.union(*paragraphs)) == 18
    # Permuted, by the seed; and a longer tuning part only adds to a shorter one, negatives included.
    other = source.model_copy(update={"split_seed": 1})
    assert load_triplets(source, "tune").digest == load_triplets(source, "tune").digest
    assert load_triplets(other, "tune").queries != load_triplets(source, "tune").queries
    shorter = load_triplets(source.model_copy(update={"num_tune": 3}), "tune")
    longer = load_triplets(source, "tune")
    assert shorter.passages == longer.passages[: len(shorter.passages)] and longer.queries[:6] == shorter.queries


def test_squad_minimum_of_sentences_and_missing_splits(tmp_path):
    write_squad(tmp_path, "validation", [(FOUR, "Where?", ["Paris"]), (TWO, "Who purrs?", ["Cats"])])
    source = SquadSentences(path=str(tmp_path), splits=("validation",))
    assert len(load_triplets(source, "evaluation").queries) == 2
    assert load_triplets(source.model_copy(update={"min_sentences": 3}), "evaluation").queries == ["Where?"]
    with pytest.raises(ValueError, match=r"must have squad_v2/train-\*\.parquet, got \['squad_v2/validation-"):
        load_triplets(SquadSentences(path=str(tmp_path)), "evaluation")
    with pytest.raises(ValueError, match="the 2 paragraphs there are"):
        load_triplets(source.model_copy(update={"num_tune": 3}), "tune")


@pytest.mark.realdata
def test_real_squad_min_5(real_data):
    """Fewer than 5 candidate sentences are left out (Appendix C); the candidates are all sentences of the paragraph."""
    source = SquadSentences(path=str(real_data / "hub"), splits=("validation",))
    everything, harder = (
        load_triplets(source.model_copy(update={"min_sentences": least}), "evaluation") for least in (2, 5)
    )
    candidates = [np.diff(one.positive_offsets) + np.diff(one.negative_offsets) for one in (everything, harder)]
    assert candidates[0].min() == 2 and candidates[1].min() == 5
    assert sorted(candidates[1].tolist()) == sorted(size for size in candidates[0].tolist() if size >= 5)


@pytest.mark.realdata
def test_real_squad(real_data, monkeypatch):
    monkeypatch.setenv("ADIABATIC_DATA", str(real_data))
    source = SquadSentences(path="${ADIABATIC_DATA}/hub", splits=("validation",))
    texts = load_triplets(source, "evaluation")
    # The paper (Appendix C) has 1.3 and 4.2 on average over all splits, by a splitter it does not name.
    assert 1.1 < len(texts.positive_rows) / len(texts.queries) < 1.4
    assert 3.8 < len(texts.negative_rows) / len(texts.queries) < 4.6


# XNLI --------------------------------------------------------------------------------------------------------------


def test_xnli_by_hand(tmp_path):
    write_xnli(tmp_path, ["p", "r"])
    texts = load_pairs(Xnli(path=str(tmp_path), languages=("en", "zh")))
    assert texts.labels == ("entailment", "neutral", "contradiction")
    assert texts.query_texts == {"en": ["p en", "r en"], "zh": ["p zh", "r zh"]}
    assert texts.passage_texts["zh"] == [f"h{place} zh" for place in range(6)]
    assert texts.query_of_pair.tolist() == texts.cluster_of_pair.tolist() == [0, 0, 0, 1, 1, 1]
    assert texts.label_of_pair.tolist() == [2, 0, 1, 2, 0, 1]
    assert load_pairs(Xnli(path=str(tmp_path))).languages == XNLI_LANGUAGES


def test_xnli_first_premises(tmp_path):
    write_xnli(tmp_path, ["p", "r", "s"])
    texts = load_pairs(Xnli(path=str(tmp_path), num_premises=2, languages=("en",)))
    assert texts.query_texts["en"] == ["p en", "r en"] and len(texts.label_of_pair) == 6
    with pytest.raises(ValueError, match="at most the 3 there are, got 4"):
        load_pairs(Xnli(path=str(tmp_path), num_premises=4))


def test_xnli_complaints(tmp_path):
    write_xnli(tmp_path / "a", ["p"], labels=[0, 1, 2, -1])
    with pytest.raises(ValueError, match="row 4: 'label' must be 0, 1 or 2, got -1"):
        load_pairs(Xnli(path=str(tmp_path / "a")))
    write_xnli(tmp_path / "b", ["p"], labels=[0, 0, 1])
    with pytest.raises(ValueError, match="without pairs \\['contradiction'\\]"):
        load_pairs(Xnli(path=str(tmp_path / "b")))
    with pytest.raises(ValueError, match=r"XNLI has ar, .* got \['ja'\]"):
        load_pairs(Xnli(path=str(tmp_path / "b"), languages=("en", "ja")))


def test_xnli_without_a_language(tmp_path):
    folder = tmp_path / "facebook/xnli/all_languages"
    folder.mkdir(parents=True)
    row = {"premise": {"en": "p"}, "hypothesis": {"language": ["en", "de"], "translation": ["h", "H"]}, "label": 0}
    pq.write_table(pa.Table.from_pylist([row]), folder / "test-0.parquet")
    source = Xnli(path=str(tmp_path), languages=("de", "en", "zh"))
    with pytest.raises(ValueError, match=r"row 1: 'premise' must have every language .* got no text in \['de', 'zh'\]"):
        load_pairs(source)
    pq.write_table(pa.Table.from_pylist([row | {"premise": "p"}]), folder / "test-0.parquet")
    with pytest.raises(ValueError, match="row 1: 'premise' must be a struct with a text by language, as on the hub"):
        load_pairs(source)


def test_xnli_as_triplets_by_hand(tmp_path):
    """Labels of a premise are 2, 0, 1: its second hypothesis is entailed, the first and third are not."""
    write_xnli(tmp_path / "a", ["p", "r"])
    source = XnliTriplets(path=str(tmp_path / "a"), split="test", language="zh", num_tune=1, num_evaluation=1)
    texts = load_triplets(source, "evaluation")
    assert texts.queries == ["r zh"]
    assert [texts.passages[row] for row in texts.positive_rows] == ["h4 zh"]
    assert [texts.passages[row] for row in texts.negative_rows] == ["h3 zh", "h5 zh"]
    tuned = load_triplets(source, "tune")
    assert tuned.queries == ["p zh"] and [tuned.passages[row] for row in tuned.positive_rows] == ["h1 zh"]
    assert [tuned.passages[row] for row in tuned.negative_rows] in (["h0 zh"], ["h2 zh"])
    with pytest.raises(ValueError, match="at most the 2 premises there are"):
        load_triplets(source.model_copy(update={"num_tune": 2}), "tune")
    with pytest.raises(ValueError, match="language"):
        XnliTriplets(language="ja")
    write_xnli(tmp_path / "b", ["p"], labels=[1, 2])
    with pytest.raises(ValueError, match="at least one of the premises, got none"):
        load_triplets(XnliTriplets(path=str(tmp_path / "b"), split="test", num_tune=1), "tune")


@pytest.mark.realdata
def test_real_xnli(real_data):
    texts = load_pairs(Xnli(path=str(real_data / "hub")))
    assert len(texts.query_texts) == len(texts.passage_texts) == 15
    assert {len(queries) for queries in texts.query_texts.values()} == {1670}
    labels_of = Counter(zip(texts.cluster_of_pair.tolist(), texts.label_of_pair.tolist(), strict=True))
    assert labels_of == Counter(itertools.product(range(1670), range(3)))
    assert load_pairs(Xnli(path=str(real_data / "hub"), languages=("en",))).cluster_of_pair.max() == 1669


# where the files come from -----------------------------------------------------------------------------------------


def test_without_a_path_the_hub_is_asked_for_one_revision(tmp_path, monkeypatch):
    write_xnli(tmp_path, ["p"])
    asked = []

    def snapshot_download(repository, **keywords):
        asked.append((repository, keywords))
        return str(tmp_path / repository)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    fetched = load_pairs(Xnli(revision="abc"))
    assert asked == [
        (
            "facebook/xnli",
            {"repo_type": "dataset", "revision": "abc", "allow_patterns": ["all_languages/test-*.parquet"]},
        )
    ]
    assert fetched.digest == load_pairs(Xnli(path=str(tmp_path))).digest


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no network"), ConnectionError("refused")])
def test_a_hub_out_of_reach(monkeypatch, error):
    def snapshot_download(repository, **keywords):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(ValueError) as caught:
        load_triplets(MsMarco(), "tune")
    said = str(caught.value)
    assert (
        "sentence-transformers/embedding-training-data at the newest revision must be on the hub or in its cache"
        in said
    )
    assert str(error) in said and "or set `path` to a folder that holds" in said


def test_a_folder_that_is_not_in_the_hubs_layout(tmp_path):
    with pytest.raises(ValueError, match="must be the folder that holds facebook/xnli/"):
        load_pairs(Xnli(path=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_and_nobody_is_asked(tmp_path, monkeypatch):
    """`datasets` would keep a lock in its cache, and `load_dataset` would count a download at the hub."""

    def no_network(*_, **__):
        raise AssertionError("a local file needs no network")

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(socket.socket, "connect", no_network)
    write_xnli(tmp_path, ["p"])
    before = sorted(tmp_path.rglob("*"))
    load_pairs(Xnli(path=str(tmp_path)))
    assert sorted(tmp_path.rglob("*")) == before


# rows through `datasets` -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["plain", "with space", "[0-9]*", ".hidden"])
def test_rows_are_those_of_the_file(tmp_path, folder, monkeypatch):
    """In order and numbered, over row groups and batches, whatever characters the path has."""
    monkeypatch.setattr("adiabatic_ray.corpora.hub_data.ROWS_PER_BATCH", 3)
    path = tmp_path / folder / "test-0.parquet"
    path.parent.mkdir()
    table = pa.table({"n": range(10), "texts": [["a"] * (n % 3) for n in range(10)], "none": [None] * 10})
    pq.write_table(table, path, row_group_size=4)
    assert list(hub_records(path)) == list(read_records(path))
    pq.write_table(table.slice(0, 0), path)
    assert list(hub_records(path)) == []


def test_features_of_the_hub(tmp_path):
    """Files that were written with `datasets` say in their metadata what their columns mean."""
    features = datasets.Features(
        {
            "premise": datasets.Translation(languages=["de", "en"]),
            "hypothesis": datasets.TranslationVariableLanguages(languages=["de", "en"]),
            "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
        }
    )
    row = {
        "premise": {"de": "P", "en": "p"},
        "hypothesis": {"language": ["de", "en"], "translation": ["H", "h"]},
        "label": 2,
    }
    pq.write_table(pa.Table.from_pylist([row], schema=features.arrow_schema), tmp_path / "test-0.parquet")
    ((_, content),) = hub_records(tmp_path / "test-0.parquet")
    assert content == row


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "test-0.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"test-0\.parquet: must be a Parquet file"):
        list(hub_records(path))
    pq.write_table(
        pa.table({"text": [f"row {n}" for n in range(1000)]}), path, compression="none", use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"test-0\.parquet, after row 0: cannot be read: "):
        list(hub_records(path))


@pytest.mark.realdata
def test_real_rows(real_data):
    (path,) = (real_data / "hub/facebook/xnli/all_languages").glob("*.parquet")
    assert list(hub_records(path)) == list(read_records(path))
