"""Every link in the table of routes and features leads to a test that exists, and none is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "guard" / "README.md"
SECTION = PAGE.read_text(encoding="utf-8").split("## Protocols")[1].split("\n## ")[0]
LINKS = dict(re.findall(r"^\[([\w-]+)\]: (\S+ \"\w+\")$", SECTION, re.MULTILINE))
TABLE = [line for line in SECTION.splitlines() if line.startswith("| ") and re.search(r"\[[A-Z2]\]", line)]


def used(text: str) -> set[str]:
    full = re.findall(r"\[\w\]\[([\w-]+)\]", text)
    return {*full, *re.findall(r"(?<!\])\[(\w)\](?!\[)", text)}


def test_every_link_is_used_and_defined() -> None:
    assert len(TABLE) >= 13
    assert used(SECTION.replace("\n[", "\n")) == set(LINKS)


@pytest.mark.parametrize("link", LINKS)
def test_the_test_it_names_is_there(link: str) -> None:
    path, name = LINKS[link].split(" ")
    text = (PAGE.parent / path).read_text(encoding="utf-8")
    assert name.strip('"') in re.findall(r"^(?:async )?def (\w+)\(", text, re.MULTILINE)
