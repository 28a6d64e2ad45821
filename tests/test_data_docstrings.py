"""Docstrings as triplets, from a small library on disk and from an installed one."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from adiabatic_ray.corpora.data import load_triplets
from adiabatic_ray.corpora.docstrings import MAX_PASSAGE_CHARACTERS, first_and_rest, library_docstrings
from adiabatic_ray.sources import DocstringTriplets

REST = "The body has more than eight words, as it must have."

LIBRARY = {
    "__init__.py": "raise RuntimeError('a library must not be imported')",
    "_private_file.py": f'''
        def public():
            """Public function of a private file. {REST} One."""
            def inner():
                """Inner functions do not count. {REST} Two."""
        def _hidden():
            """Hidden functions do not count. {REST} Three."""
        class Thing:
            """Class with a docstring. {REST} Four."""
            def method(self):
                """Method of a class. {REST} Five."""
            def __len__(self):
                """Special methods do not count. {REST} Six."""
        class _Hidden:
            def method(self):
                """Method of a hidden class. {REST} Seven."""
        def short():
            """First sentence only, no rest."""
        def terse():
            """Two words. {REST} Eight."""
        def directive():
            """.. note:: this is a directive. {REST} Nine."""
    ''',
    "later.py": f'''
        async def again():
            """Public function of a private file. {REST} A first sentence that was there before."""
        async def same_rest():
            """Another first sentence here. {REST} One."""
        async def new():
            """Coroutines count as well. {REST} Ten."""
    ''',
    "template.py": "def {name}(): pass",
    "tests/test_it.py": f'def public(): """Docstring of a test. {REST} Eleven."""',
    "test_top.py": f'def public(): """Docstring of another test. {REST} Twelve."""',
    "sub/deep.py": f'def deep(): r"""Found in a sub-folder \\d. {REST} Thirteen."""',
}


def write_library(root: Path, name: str, files: dict[str, str]) -> None:
    for file, content in files.items():
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the import path."""
    library_docstrings.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    library_docstrings.cache_clear()


def test_what_counts_as_public(site):
    write_library(site, "small_library", LIBRARY)
    assert [one.first for one in library_docstrings("small_library")] == [
        "Public function of a private file.",
        "Class with a docstring.",
        "Method of a class.",
        "Coroutines count as well.",
        "Found in a sub-folder \\d.",
    ]
    assert library_docstrings("small_library")[0].rest == f"{REST} One."
    assert "small_library" not in sys.modules


@pytest.mark.parametrize(
    ("docstring", "first", "rest"),
    [
        ("Do it. Then rest.", "Do it.", "Then rest."),
        (
            "Return the mean\n\nParameters\n----------\nx : int\n    A number.",
            "Return the mean",
            "Parameters x : int A number.",
        ),
        ("Spread over\ntwo lines. More\nhere.\n\nBelow.", "Spread over two lines.", "More here. Below."),
        ("", "", ""),
    ],
)
def test_first_sentence_and_rest(docstring, first, rest):
    assert first_and_rest(docstring) == (first, rest)


def test_long_docstrings_are_cut_at_a_space():
    _, rest = first_and_rest("First one. " + "Word " * 200)
    assert MAX_PASSAGE_CHARACTERS - 5 < len(rest) <= MAX_PASSAGE_CHARACTERS and set(rest.split()) == {"Word"}
    _, rest = first_and_rest("First one. " + "X" * MAX_PASSAGE_CHARACTERS)
    assert rest == "X" * MAX_PASSAGE_CHARACTERS


def many(prefix: str, number: int, file_name: str = "__init__.py") -> dict[str, str]:
    functions = [f'def f{n}():\n    """{prefix} does job {n}. {prefix} {n}: {REST}"""\n' for n in range(number)]
    return {file_name: "".join(functions)}


def test_parts_are_disjoint_and_negatives_stay_in_their_library(site):
    write_library(site, "first_library", many("Alpha", 30))
    write_library(site, "second_library", many("Beta", 20))
    source = DocstringTriplets(
        libraries=("first_library", "second_library"), num_tune=24, num_validation=10, num_evaluation=16
    )
    seen: list[str] = []
    for part, size in (("tune", 24), ("validation", 10), ("evaluation", 16)):
        texts = load_triplets(source, part)
        assert len(texts.queries) == len(texts.positive_rows) == len(texts.negative_rows) == size
        for query, positive, negative in zip(texts.queries, texts.positive_rows, texts.negative_rows, strict=True):
            name, _, job = query.removesuffix(".").partition(" does job ")
            assert texts.passages[positive] == f"{name} {job}: {REST}"
            assert positive != negative and texts.passages[negative].startswith(f"{name} ")
        assert {query.partition(" ")[0] for query in texts.queries} == {"Alpha", "Beta"}
        seen += texts.queries
    assert len(set(seen)) == 50
    other = source.model_copy(update={"negative_seed": 1})
    assert load_triplets(other, "tune").queries != load_triplets(source, "tune").queries
    assert load_triplets(source, "tune").digest == load_triplets(source, "tune").digest


def test_a_negative_comes_from_the_same_file_or_else_from_the_same_library(site):
    files = many("Alpha", 20, "a.py") | many("Beta", 20, "b.py") | many("Lone", 1, "c.py") | {"__init__.py": ""}
    write_library(site, "one_library", files)
    write_library(site, "other_library", many("Delta", 9))
    texts = load_triplets(DocstringTriplets(libraries=("one_library", "other_library")), "evaluation")
    assert len(texts.queries) == 50
    for query, row in zip(texts.queries, texts.negative_rows, strict=True):
        near, other = query.partition(" ")[0], texts.passages[row].partition(" ")[0]
        assert other == near or (near == "Lone" and other in {"Alpha", "Beta"})


def test_a_lone_docstring_of_its_library_gets_a_negative_from_another(site):
    write_library(site, "one_library", many("Alpha", 1))
    write_library(site, "other_library", many("Beta", 1))
    texts = load_triplets(DocstringTriplets(libraries=("one_library", "other_library")), "evaluation")
    assert texts.negative_rows.tolist() == texts.positive_rows[::-1].tolist()


def test_what_two_libraries_share_counts_once(site):
    write_library(site, "first_library", many("Alpha", 3))
    write_library(site, "copy_library", many("Alpha", 5))
    texts = load_triplets(DocstringTriplets(libraries=("first_library", "copy_library")), "evaluation")
    assert sorted(texts.queries) == [f"Alpha does job {n}." for n in range(5)]


def test_a_library_that_is_one_file(site):
    (site / "single_file.py").write_text(many("Gamma", 2)["__init__.py"], encoding="utf-8")
    assert len(library_docstrings("single_file")) == 2


@pytest.mark.parametrize(
    ("libraries", "said"),
    [
        (("no_such_library",), "must be installed for its docstrings to be read, got 'no_such_library'; install it"),
        (("json.decoder",), "without dots, got 'json.decoder'"),
        (("math",), "needs Python source to be read, got 'math'"),
        (("json", "json"), "each library is named once"),
    ],
)
def test_libraries_that_cannot_be_read(libraries, said):
    with pytest.raises(ValueError) as caught:
        load_triplets(DocstringTriplets(libraries=libraries), "evaluation")
    assert said in str(caught.value)


def test_an_installed_library():
    texts = load_triplets(DocstringTriplets(libraries=("numpy",), num_tune=100, num_validation=20), "evaluation")
    assert len(texts.queries) > 500
    assert len(set(texts.queries)) == len(texts.queries) and len(texts.passages) == len(texts.queries)
