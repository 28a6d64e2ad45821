"""arXiv at the paper's 21 levels and in narrow categories: which papers ask, and which paper is the wrong answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from adiabatic_ray.corpora.data import TripletSet, load_triplets
from adiabatic_ray.sources import ArxivTriplets, MsMarco, SquadSentences
from adiabatic_ray.spec import E5, EvaluationSpec, TrialSpec

NUM_PAPERS = 30


def name_of(number: int) -> str:
    return f"0704.{number:04}"


def paper(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": name_of(number),
        "title": f"Title {number}",
        "abstract": f"First of {number}. Second of {number}.",
        "categories": ["math.CO", "cs.DM"],
    } | changes


def write_papers(path: Path, papers: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in papers), encoding="utf-8")
    return str(path)


def write_negatives(path: Path, rows: dict[int, list[int]]) -> str:
    """21 numbers of papers for each paper, in the layout that `adiabatic data arxiv-negatives` writes."""
    table = pa.table(
        {
            "id": pa.array([name_of(number) for number in rows], pa.string()),
            "negatives": pa.array([[name_of(one) for one in row] for row in rows.values()], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, path)
    return str(path)


def after(number: int, total: int = NUM_PAPERS) -> list[int]:
    """Level k of a paper is the k-th paper after it."""
    return [(number + step) % total for step in range(1, 22)]


def number_of(text: str) -> int:
    return int(text.rstrip(".").split()[-1])


def numbers(texts: TripletSet) -> dict[int, tuple[int, int]]:
    """Paper of the query -> papers of its positive and of its negative."""
    passages = [number_of(text) for text in texts.passages]
    rows = zip(texts.queries, texts.positive_rows, texts.negative_rows, strict=True)
    return {number_of(query): (passages[positive], passages[negative]) for query, positive, negative in rows}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {
        "path": write_papers(tmp_path / "papers.jsonl", [paper(n) for n in range(NUM_PAPERS)]),
        "negatives": write_negatives(tmp_path / "negatives.parquet", {n: after(n) for n in range(NUM_PAPERS)}),
    }


@pytest.mark.parametrize("level", [1, 14, 20, 21])
@pytest.mark.parametrize("flavour", ["title", "first"])
def test_a_level_is_a_place_in_the_list(files, level, flavour):
    """Difficulty 14 is the 14th id (Appendix B.1), the hardest the first; the default is the last."""
    changes = {} if level == 21 else {"level": level}
    texts = load_triplets(ArxivTriplets(flavour=flavour, **files, **changes), "evaluation")
    assert numbers(texts) == {n: (n, (n + level) % NUM_PAPERS) for n in range(NUM_PAPERS)}
    assert all(text.startswith("Second of" if flavour == "first" else "First of") for text in texts.passages)


def test_all_levels_ask_the_same_queries_in_the_same_order(files):
    """So that levels can be compared pair by pair; the random draw without a file keeps that order too."""
    at = {level: load_triplets(ArxivTriplets(level=level, **files), "evaluation").queries for level in (1, 21)}
    plain = load_triplets(ArxivTriplets(path=files["path"]), "evaluation").queries
    assert at[1] == at[21] == plain


def test_parts_and_samples_of_papers(files):
    source = ArxivTriplets(level=3, num_papers=12, num_tune=5, num_validation=3, **files)
    found = [numbers(load_triplets(source, part)) for part in ("tune", "validation", "evaluation")]
    assert [len(one) for one in found] == [5, 3, 4] and len({n for one in found for n in one}) == 12
    assert all(negative == (n + 3) % NUM_PAPERS for one in found for n, (_, negative) in one.items())
    assert (
        len(load_triplets(ArxivTriplets(level=3, num_papers=1 + 1, num_evaluation=1, **files), "evaluation").queries)
        == 1
    )
    with pytest.raises(ValueError, match="at most the 30 usable papers there are, got 31"):
        load_triplets(ArxivTriplets(num_papers=31, **files), "evaluation")


def test_papers_that_are_left_out(tmp_path):
    papers = [paper(n) for n in range(25)]
    papers[4]["abstract"] = "One sentence of 4."
    papers[7]["title"] = " "
    path = write_papers(tmp_path / "papers.jsonl", [*papers, papers[3]])
    negatives = write_negatives(tmp_path / "n.parquet", {n: after(n, 25) for n in range(20)})  # no list for 20 to 24
    first = numbers(
        load_triplets(ArxivTriplets(path=path, negatives=negatives, level=1, flavour="first"), "evaluation")
    )
    assert set(first) == set(range(20)) - {3, 4}  # 3, because its negative is 4
    title = numbers(load_triplets(ArxivTriplets(path=path, negatives=negatives, level=1), "evaluation"))
    assert set(title) == set(range(20)) - {7} and title[6] == (6, 7)  # a negative needs no title


NARROW = [
    ["math.CO"],
    ["math-ph", "math.MP"],
    ["hep-th", "math-ph"],
    ["cs.LG", "math.OC"],
    ["cs.LG"],
    ["physics.optics"],
]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"categories": ("math",)}, {0, 1, 3}),
        ({"categories": ("cs",)}, {3, 4}),
        ({"categories": ("physics",)}, {5}),  # the archives beside it, as hep-th, are not in it: prefix "physics."
        ({"categories": ("math", "physics")}, {0, 1, 3, 5}),
        ({"categories": ("math-ph",)}, {1, 2}),
        ({"categories": ("cs.LG",)}, {3, 4}),
        ({"excluded_categories": ("math",)}, {2, 4, 5}),
        ({"excluded_categories": ("math", "cs")}, {2, 5}),
        ({"categories": ("math",), "excluded_categories": ("cs",)}, {0, 1}),
    ],
)
@pytest.mark.parametrize("join", [list, " ".join])
def test_categories_by_any_of_a_papers(tmp_path, changes, kept, join):
    """Appendix K: "at least one category which has the prefix"; a list or, as arXiv writes it, one text."""
    papers = [paper(n + 100 * copy, categories=join(NARROW[n])) for n in range(6) for copy in range(2)]
    texts = load_triplets(ArxivTriplets(path=write_papers(tmp_path / "p.jsonl", papers), **changes), "evaluation")
    found = numbers(texts)
    assert {n % 100 for n in found} == kept and len(found) == 2 * len(kept)
    assert {negative % 100 for _, negative in found.values()} <= kept  # drawn from the same selection


def test_a_listed_negative_may_be_of_any_category(tmp_path):
    """A sample is a paper with its list (Appendix B.1): leaving out samples leaves the lists of others alone."""
    papers = [paper(n, categories=["cs.LG" if n % 2 else "math.CO"]) for n in range(22)]
    source = ArxivTriplets(
        path=write_papers(tmp_path / "p.jsonl", papers),
        negatives=write_negatives(tmp_path / "n.parquet", {n: after(n, 22) for n in range(22)}),
        level=1,
        excluded_categories=("cs",),
    )
    assert numbers(load_triplets(source, "evaluation")) == {n: (n, n + 1) for n in range(0, 22, 2)}


def test_selections_that_are_empty_or_cannot_be_made(files, tmp_path):
    with pytest.raises(ValueError, match="at least one of the papers, got none that can be used"):
        load_triplets(ArxivTriplets(path=files["path"], categories=("q-bio",)), "evaluation")
    bare = write_papers(tmp_path / "bare.jsonl", [{"id": "1", "title": "t", "abstract": "a"}])
    with pytest.raises(ValueError, match="line 1: a record needs 'categories'"):
        load_triplets(ArxivTriplets(path=bare, categories=("math",)), "evaluation")
    odd = write_papers(tmp_path / "odd.jsonl", [paper(1, categories=[3])])
    with pytest.raises(ValueError, match="line 1: 'categories' must be a list of texts, got"):
        load_triplets(ArxivTriplets(path=odd, categories=("math",)), "evaluation")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({0: after(0)[:20]}, "row 1: 'negatives' must list 21 ids, got"),
        ({0: [0, *after(0)[1:]]}, "row 1: a negative must be another paper, got '0704.0000' at level 1"),
        ({0: [99, *after(0)[1:]]}, "must be papers of the metadata, got '0704.0099' for '0704.0000', which"),
        ({77: after(0)}, "at least one of the papers, got none that can be used"),
    ],
)
def test_bad_lists_of_negatives(files, tmp_path, rows, said):
    negatives = write_negatives(tmp_path / "bad.parquet", rows)
    with pytest.raises(ValueError) as caught:
        load_triplets(ArxivTriplets(path=files["path"], negatives=negatives, level=1), "evaluation")
    assert said in str(caught.value)


def test_ids_that_come_twice(files, tmp_path):
    table = pq.read_table(files["negatives"])
    pq.write_table(pa.concat_tables([table, table.slice(3, 1)]), tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match=r"row 31: each 'id' may stand once, got '0704.0003', .* of .*row 4;"):
        load_triplets(
            ArxivTriplets(path=files["path"], negatives=str(tmp_path / "twice.parquet"), level=1), "evaluation"
        )
    path = write_papers(tmp_path / "p.jsonl", [paper(1), paper(2), paper(1, title="Another")])
    with pytest.raises(ValueError, match=r"line 3: an id names one paper, got '0704.0001' again with another title"):
        load_triplets(ArxivTriplets(path=path), "evaluation")


def test_settings_that_make_no_sense(files):
    with pytest.raises(ValidationError, match=r"levels 1 to 20 are listed in a file, got level=5 and no `negatives`"):
        ArxivTriplets(path=files["path"], level=5)
    for level in (0, 22):
        with pytest.raises(ValidationError, match="level"):
            ArxivTriplets(level=level, **files)
    with pytest.raises(ValidationError, match=r"categories\.0"):
        ArxivTriplets(path=files["path"], categories=("math.",))
    with pytest.raises(ValueError, match=r"a path must exist, got .*none; correct `negatives`"):
        load_triplets(ArxivTriplets(path=files["path"], negatives="none"), "evaluation")


def test_new_fields_do_not_rename_old_trials():
    """The canonical form leaves defaults out: what is pinned here changes with `SPEC_VERSION` alone."""
    sets = (MsMarco(), ArxivTriplets(path="x"), SquadSentences())
    trial = TrialSpec(backbone=E5, source=MsMarco(), evaluation=EvaluationSpec(sets=sets))
    assert not any(name in trial.canonical() for name in ("level", "negatives", "categories"))
    assert trial.trial_id == "lr5e-08-embeddings-seed0-0407872ee0"


@pytest.mark.realdata
def test_real_narrow_sets_and_levels(real_data, tmp_path):
    """Tune on mathematics, evaluate without it (Table 5); and a made-up list over the real papers."""
    path = real_data / "arxiv_30k.parquet"
    source = ArxivTriplets(path=str(path), flavour="title")
    only, without = (
        load_triplets(source.model_copy(update={field: ("math",)}), "evaluation")
        for field in ("categories", "excluded_categories")
    )
    assert len(only.queries) + len(without.queries) == 30_000 and len(only.queries) == 12_874
    papers = pq.read_table(path).slice(0, 500).to_pylist()
    ids = [one["id"] for one in papers]
    lists = [[ids[(n + step) % 500] for step in range(1, 22)] for n in range(500)]
    pq.write_table(pa.table({"id": ids, "negatives": lists}), tmp_path / "n.parquet")
    listed = source.model_copy(update={"negatives": str(tmp_path / "n.parquet"), "level": 2})
    texts = load_triplets(listed, "evaluation")
    title, abstract = ([" ".join(one[key].split()) for one in papers] for key in ("title", "abstract"))
    expected = [(title[n], abstract[n], abstract[(n + 2) % 500]) for n in range(500)]
    rows = zip(texts.queries, texts.positive_rows, texts.negative_rows, strict=True)
    found = [(query, texts.passages[positive], texts.passages[negative]) for query, positive, negative in rows]
    assert sorted(found) == sorted(expected)
