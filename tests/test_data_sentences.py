"""The sentence rules on the cases they were written for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.corpora.sentences import split_sentences


@pytest.mark.parametrize(
    "text",
    [
        "One. | Two! | Three? | Four...",
        'He said "No." | She left.',
        "(It was late.) | They slept.",
        "It was cooled.[citation needed] | Then it froze.",
        "It fell.[note 1][2] | It rose.",
        "It ended in 1945. | 12 people stayed.",
        "Dr. Smith met Mr. J. R. R. Tolkien at St. Mary's.",
        "Fruits (e.g. apples, i.e. Malus) and others, cf. Fig. 3 and Eq. 2, are given in Sec. 4 of Ref. 5.",
        "The U.S. Army left. | He came to the U.S. | The war ended.",
        "Pi is 3.14 and version 1.2.3 runs.",
        "In Ricci v. DeStefano (d. 172 AD) nothing changed.",
        "Smith et al. proved it. | We use it.",
        "Cubists of Fingers Inc. | The tour followed.",
        "Apple Inc. Chairman spoke.",
        "We lack vitamin C. | This is bad.",
        "See example.com. it is lower case.",
        "\u201cYes.\u201d | \u201cNo.\u201d",
    ],
)
def test_sentences(text):
    assert split_sentences(text.replace(" | ", " ")) == text.split(" | ")


def test_nothing_gives_nothing():
    assert split_sentences("") == split_sentences(" \n") == []


@given(st.text(alphabet='aB1.?!"()[] \nUS', max_size=40))
def test_no_character_is_lost(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)
