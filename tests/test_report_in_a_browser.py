"""The report in a real browser: Chromium on PATH, or what ADIABATIC_BROWSER names; skipped where there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from planted_xnli import Look, write_xnli

from analysis.report import write_report

BROWSER = os.environ.get("ADIABATIC_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium; name one: ADIABATIC_BROWSER")]

PHONE, DESKTOP = 390, 1280
PROBE = """<!DOCTYPE html><iframe id="page" src="{url}" style="width:{width}px;height:3000px;border:0"></iframe><script>
document.getElementById("page").onload = function () {{
  var page = this.contentDocument, found = [];
  function say(name, value) {{ found.push(name + "=" + value); }}
  say("width", page.documentElement.scrollWidth);
  var charts = Array.from(page.querySelectorAll(".chart > svg"));
  say("charts", charts.filter(s => s.getBoundingClientRect().height > 100).length);
  var cell = page.querySelector(".map td[title]"), tip = cell.getAttribute("title");
  var place = cell.getBoundingClientRect();
  cell.dispatchEvent(new page.defaultView.PointerEvent("pointermove",
    {{bubbles: true, clientX: place.left + 3, clientY: place.top + 3}}));
  say("tip", page.getElementById("tip").textContent === tip && !page.getElementById("tip").hidden);
  var mark = page.querySelector(".mark.mean"), box = mark.getBoundingClientRect();
  say("text", mark.querySelector("title").textContent);
  mark.dispatchEvent(new page.defaultView.PointerEvent("pointerdown",
    {{bubbles: true, clientX: box.left + 9, clientY: box.top + 9}}));
  say("touched", page.getElementById("tip").textContent);
  say("small", Array.from(page.querySelectorAll(".map td")).filter(c => c.scrollWidth > c.clientWidth + 1).length);
  var result = document.createElement("pre");
  result.id = "result";
  result.textContent = found.join("\\n");
  document.body.appendChild(result);
}};</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser")
    write_xnli(out, Look(rates=(2e-8, 7e-8, 2e-7), num_languages=15, num_clusters=40, seeds=(0,)))
    return write_report(out, num_resamples=100).html


def dom(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=4000", *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)


def test_the_page_loads_from_disk_without_an_error(page, tmp_path):
    done = dom(page, tmp_path)
    assert 'id="tip"' in done.stdout, "the script did not run to its end"
    errors = re.findall(r"CONSOLE.*|.*ERR_[A-Z_]+.*", done.stderr)
    assert errors == []


@pytest.mark.parametrize("width", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_fits_its_window_and_hovering_shows_the_numbers(page, tmp_path, width):
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(url=page.as_uri(), width=width))
    done = dom(probe, tmp_path / "profile", f"--window-size={max(width, 600)},3000")
    result = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert result, done.stderr[-2000:]
    found = dict(line.split("=", 1) for line in result[1].splitlines())
    assert int(found["width"]) <= width, "the page scrolls sideways"
    assert int(found["charts"]) >= 5
    assert found["tip"] == "true"
    assert "95%" in found["touched"]
    assert found["small"] == "0", "numbers are cut off in the maps"
