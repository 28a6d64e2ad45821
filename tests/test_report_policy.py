"""The report's Content-Security-Policy: by the file, and by what a browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from planted import Plan, write_planted
from test_report_in_a_browser import BROWSER, dom
from test_report_page import Parsed

from analysis.report import write_report

# What a browser would run if it were let: a script, a handler of an element, and an address.
STRANGE = (
    "<script>document.body.dataset.ran = 'script'</script>"
    "<svg onload=\"document.body.dataset.ran = 'handler'\"></svg>"
    "<iframe src=\"javascript:parent.document.body.dataset.ran = 'address'\"></iframe>"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("policy")
    write_planted(out, Plan({0.0: 0.0, 1e-8: 0.01, 1e-7: -0.04}))
    return write_report(out, num_resamples=100).html


def test_the_policy_names_the_pages_own_script_by_its_hash(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    metas = [attrs for tag, attrs in Parsed(text).elements if tag == "meta"]
    (policy,) = [attrs["content"] for attrs in metas if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules.keys() == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    assert text.index("Content-Security-Policy") < text.index("<title>") < text.index("<style>")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium; name one: ADIABATIC_BROWSER")
def test_a_browser_runs_the_pages_script_and_no_other(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    strange = tmp_path / "strange.html"
    strange.write_text(text.replace("<main>", f"<main>{STRANGE}"), encoding="utf-8")
    unguarded = tmp_path / "unguarded.html"
    meta = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    unguarded.write_text(meta.sub("", strange.read_text(encoding="utf-8")), encoding="utf-8")
    seen = {one.stem: dom(one, tmp_path / one.stem) for one in (strange, unguarded)}
    assert 'id="tip"' in seen["strange"].stdout, "the page's own script did not run to its end"
    assert "data-ran=" not in seen["strange"].stdout
    assert "data-ran=" in seen["unguarded"].stdout, "without the policy it would have run: the test sees what it should"
