"""HotpotQA from the hub's layout and from a file of records: which passages stand on which side, which questions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adiabatic_ray.corpora.data import TripletSet, load_triplets
from adiabatic_ray.sources import HotpotQa
from adiabatic_ray.spec import E5, EvaluationSpec, TrialSpec

Passage = tuple[str, list[str]]
"""Title and sentences, each but the first with the space before it, as in the hub's files."""


def write_hub(root: Path, split: str, rows: Sequence[dict[str, Any]], file: str = "00000-of-00001") -> None:
    """The hub's layout; `facts` are the titles of the supporting facts."""
    folder = root / "hotpotqa/hotpot_qa/distractor"
    folder.mkdir(parents=True, exist_ok=True)
    table = [
        {
            "id": f"{split}{number}",
            "question": row["question"],
            "answer": "yes",
            "type": "bridge",
            "level": row.get("level", "hard"),
            "supporting_facts": {"title": row["facts"], "sent_id": [0] * len(row["facts"])},
            "context": {
                "title": [title for title, _ in row["passages"]],
                "sentences": [sentences for _, sentences in row["passages"]],
            },
        }
        for number, row in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(table), folder / f"{split}-{file}.parquet")


def ten(question: str, level: str = "hard", **changes: Any) -> dict[str, Any]:
    """A question with ten passages, the second and the fourth positive."""
    passages = [(f"T{n}", [f"{question} {n}.", " More."]) for n in range(10)]
    return {"question": question, "level": level, "facts": ["T1", "T3", "T3"], "passages": passages} | changes


def from_validation(root: Path, **changes: Any) -> HotpotQa:
    return HotpotQa(path=str(root), splits=("validation",), **changes)


def sides(texts: TripletSet) -> dict[str, tuple[list[str], list[str]]]:
    found = []
    for rows, offsets in ((texts.positive_rows, texts.positive_offsets), (texts.negative_rows, texts.negative_offsets)):
        found.append([[texts.passages[row] for row in rows[a:b]] for a, b in itertools.pairwise(offsets)])
    return dict(zip(texts.queries, zip(*found, strict=True), strict=True))


def test_sides_by_hand(tmp_path):
    twins: list[Passage] = [("T1", ["same"]), ("T2", ["same"]), ("T3", ["gold"]), ("T4", ["other"]), ("T5", ["other"])]
    empty: list[Passage] = [("T1", ["a"]), ("T2", ["b"]), ("T3", [" "]), ("T4", [])]
    rows = [
        ten("q"),
        {"question": "twins", "facts": ["T1", "T3"], "passages": twins},
        {"question": "empty", "facts": ["T1", "T3"], "passages": empty},
        {"question": "no positive", "facts": ["T9"], "passages": twins},
        {"question": "no negative", "facts": ["T1", "T2"], "passages": twins[:2]},
    ]
    write_hub(tmp_path, "validation", rows)
    found = sides(load_triplets(from_validation(tmp_path, min_passages=2), "evaluation"))
    assert found == {
        "q": (["q 1. More.", "q 3. More."], [f"q {n}. More." for n in (0, 2, 4, 5, 6, 7, 8, 9)]),
        "twins": (["same", "gold"], ["other"]),  # a text once, and as positive where it is both
        "empty": (["a"], ["b"]),
    }
    assert set(sides(load_triplets(from_validation(tmp_path), "evaluation"))) == {
        "q"
    }  # 10 passages, as the paper has it


def test_levels_over_both_splits_and_several_files(tmp_path):
    rows = [ten(f"{level}{n}", level) for n in range(3) for level in ("easy", "medium", "hard")]
    write_hub(tmp_path, "train", rows[:4], "00000-of-00002")
    write_hub(tmp_path, "train", rows[4:7], "00001-of-00002")
    write_hub(tmp_path, "validation", rows[7:])
    for level in ("easy", "medium", "hard"):
        texts = load_triplets(HotpotQa(path=str(tmp_path), level=level), "evaluation")
        assert sorted(texts.queries) == [f"{level}{n}" for n in range(3)]
    assert len(load_triplets(HotpotQa(path=str(tmp_path)), "evaluation").queries) == 9


def test_parts_of_permuted_questions(tmp_path):
    write_hub(tmp_path, "validation", [ten(f"q{n}") for n in range(20)])
    source = from_validation(tmp_path, num_tune=8, num_validation=4, num_evaluation=6)
    parts = [load_triplets(source, part) for part in ("tune", "validation", "evaluation")]
    queries = [query for part in parts for query in part.queries]
    assert [len(part.queries) for part in parts] == [8, 4, 6] and len(set(queries)) == 18
    assert parts[0].queries != [f"q{n}" for n in range(8)]
    for query, (positives, negatives) in sides(parts[0]).items():  # one triplet a question to tune on
        assert positives == [f"{query} 1. More."] and len(negatives) == 1 and negatives[0].startswith(f"{query} ")
    shorter = load_triplets(source.model_copy(update={"num_tune": 3}), "tune")
    assert shorter.queries == queries[:3] and shorter.passages == parts[0].passages[: len(shorter.passages)]
    other = load_triplets(source.model_copy(update={"split_seed": 1}), "tune")
    assert other.queries != parts[0].queries
    with pytest.raises(ValueError, match="the 20 questions there are"):
        load_triplets(source.model_copy(update={"num_tune": 30}), "tune")


def test_a_file_of_records(tmp_path):
    write_hub(tmp_path, "validation", [ten("q")])
    record = {
        "question": "q",
        "level": "hard",
        "texts": [f"q {n}. More." for n in range(10)],
        "is_positive": [n in (1, 3) for n in range(10)],
    }
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    flat = load_triplets(HotpotQa(path=str(path)), "evaluation")
    assert flat.digest == load_triplets(from_validation(tmp_path), "evaluation").digest
    with pytest.raises(ValueError, match="at least one of the questions, got none that can be used"):
        load_triplets(HotpotQa(path=str(path), level="easy"), "evaluation")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_positive": [True]}, "line 1: 'texts' and 'is_positive' must be lists of one length"),
        ({"texts": "t"}, "line 1: 'texts' and 'is_positive' must be lists of one length"),
        ({"texts": ["t", " "]}, "line 1: 'texts' must not be empty"),
        ({"level": None}, "line 1: a record needs 'level'"),
        ({"question": ""}, "line 1: 'question' must not be empty"),
    ],
)
def test_bad_records_are_named(tmp_path, changes, said):
    record = {"question": "q", "level": "hard", "texts": ["a", "b"], "is_positive": [True, False]} | changes
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        load_triplets(HotpotQa(path=str(path), min_passages=2), "evaluation")
    assert said in str(caught.value)


def test_a_file_in_another_layout(tmp_path):
    folder = tmp_path / "hotpotqa/hotpot_qa/distractor"
    folder.mkdir(parents=True)
    row = {"question": "q", "level": "hard", "context": [{"title": "T", "sentences": ["s"]}], "supporting_facts": "T"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "validation-0.parquet")
    with pytest.raises(ValueError, match="row 1: 'context' must be a struct with 'title' and 'sentences'"):
        load_triplets(from_validation(tmp_path), "evaluation")


def test_a_source_of_either_role():
    easy, hard = HotpotQa(name="hotpotqa-easy", level="easy"), HotpotQa(num_tune=100, num_validation=10, level="hard")
    trial = TrialSpec(backbone=E5, source=hard, evaluation=EvaluationSpec(sets=(easy, hard)))
    assert TrialSpec.model_validate_json(trial.model_dump_json()) == trial


@pytest.mark.realdata
def test_real_hotpot(real_data, tmp_path):
    """495 of the 500 have ten passages, two of them positive (Appendix D says always)."""
    file = real_data / "hotpotqa_dev500.parquet"
    texts = load_triplets(HotpotQa(path=str(file), level="hard"), "evaluation")
    positives, negatives = np.diff(texts.positive_offsets), np.diff(texts.negative_offsets)
    assert len(texts.queries) == 495 and (positives == 2).all()
    # Two questions show one text under several titles: one beside a positive, one five times among the negatives.
    assert sorted(negatives.tolist())[:2] == [4, 7] and (np.sort(negatives)[2:] == 8).all()

    rows = [
        {
            "question": row["question"],
            "level": row["level"],
            "facts": [title for title, positive in zip(row["titles"], row["is_positive"], strict=True) if positive],
            "passages": [(title, [text]) for title, text in zip(row["titles"], row["texts"], strict=True)],
        }
        for row in pq.read_table(file).to_pylist()
    ]
    write_hub(tmp_path, "validation", rows)
    again = load_triplets(from_validation(tmp_path, level="hard"), "evaluation")
    assert again.queries == texts.queries
    assert [text.strip() for text in texts.passages] == again.passages
