"""Credentials are taken out of what is kept and shown: by hand, and whatever the password is."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray import provenance
from adiabatic_ray.redaction import without_credentials


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://me:pa55@host:5000/api", "https://***@host:5000/api"),
        ("https://t0ken@host/x", "https://***@host/x"),
        ("postgresql+psycopg2://me:p/a@s@host/db", "postgresql+psycopg2://***@host/db"),
        ("--tracking-uri=http://me:pa55@host", "--tracking-uri=http://***@host"),
        ("got http://a:b@c and http://d:e@f", "got http://***@c and http://***@f"),
        ("mysql://host/db?user=me&password=pa55&x=1", "mysql://host/db?user=me&password=***&x=1"),
        ("https://host/?X-Amz-Signature=0a1b", "https://host/?X-Amz-Signature=***"),
    ],
)
def test_credentials_are_removed(text: str, wanted: str) -> None:
    assert without_credentials(text) == wanted


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:5000", "sqlite:////home/me@work/mlflow.db", "file:///a/b@c", "me@example.org", "a://b/c@d", ""],
)
def test_what_has_none_stays(text: str) -> None:
    assert without_credentials(text) == text


@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_whatever_the_password(password: str) -> None:
    assert without_credentials(f"run http://me:{password}@host/db now") == "run http://***@host/db now"


def test_the_recorded_command_line_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["adiabatic", "sweep", "demo", "--tracking-uri", "https://me:pa55@host"])
    assert provenance.collect()["argv"][-1] == "https://***@host"
