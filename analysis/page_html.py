"""A page as one HTML file that needs nothing else: style, charts and a few lines of script are in it.

No library of charts (`charts` says why), no font, no request of any kind. Without JavaScript everything is there:
hovering shows the browser's own tip. The script makes the tip instant, puts it under a finger, and opens what is folded
when an anchor points into it. Light and dark follow the reader's system; print is light, with everything unfolded.
Jinja escapes every text; only what `charts` made, which escapes what it is given, passes as it is. Should a text get
through all the same, the page's policy lets the browser run no script but the page's own, and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from . import shades
from .page import Block, Page

TEMPLATES = Path(__file__).resolve().parent / "templates"


def render_html(page: Page) -> str:
    """The whole file."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = _kind
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    steps = {"diverging": shades.diverging_steps(), "sequential": shades.sequential_steps()}
    return environment.get_template("report.html.j2").render(
        page=page,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        policy=content_policy(script),
        shades_light=Markup(shades.css("light")),
        shades_dark=Markup(shades.css("dark")),
        shade_rules=Markup(shades.class_rules()),
        steps=steps,
    )


def content_policy(script: str) -> str:
    """The page's Content-Security-Policy (W3C, level 3): this one script by its hash, styles of its own, nothing else.

    Styles are allowed inline as a whole: a hash does not cover the `style` attribute that a map's columns need.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'"
    )


def _kind(block: Block) -> str:
    """Name of the block's class, by which the template chooses how to write it."""
    return type(block).__name__
