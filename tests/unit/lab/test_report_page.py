"""The frame lets exactly its own style and script run."""

from __future__ import annotations

import base64
import hashlib
import re

from guard.lab.report_page import page


def test_the_rules_name_the_hashes_of_what_stands_in_the_page() -> None:
    html = "".join(page("a <title>", ["<p>body</p>", "<p>more</p>"]))
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in html
    assert "<title>a &lt;title&gt;</title>" in html
    assert "<p>body</p>\n<p>more</p>\n" in html


def test_both_colour_schemes() -> None:
    assert "prefers-color-scheme: dark" in "".join(page("t", []))
