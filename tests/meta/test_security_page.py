"""Every item of the threat model names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line for line in (ROOT / "deploy/SECURITY.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")
]
ITEMS = [row for row in ROWS if not row.startswith("| threat |")]


def test_there_are_items() -> None:
    assert len(ITEMS) >= 30


@pytest.mark.parametrize("row", ITEMS, ids=[row.split("|")[1].strip() for row in ITEMS])
def test_the_test_it_names_is_there(row: str) -> None:
    named = re.search(r"`(tests/[\w/]+\.py)::(\w+)` \|$", row)
    assert named, row
    text = (ROOT / named[1]).read_text(encoding="utf-8")
    assert named[2] in re.findall(r"^(?:async )?def (\w+)\(", text, re.MULTILINE)
