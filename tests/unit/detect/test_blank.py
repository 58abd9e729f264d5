"""Floods of line ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.detect.blank import BlankRun


def run(*blocks: str) -> BlankRun:
    blank = BlankRun()
    for block in blocks:
        blank.feed(block)
    return blank


def test_only_the_line_ends_at_the_end_count() -> None:
    assert run("a\n\nb\n").lines == 1
    assert run("a\n \n\t\n").lines == 3
    assert run("\n" * 16, "\n" * 16).lines == 32
    assert run("\n" * 16, "x").lines == 0


@given(st.text(alphabet="ab \n\t", max_size=60), st.integers(1, 7))
def test_cutting_does_not_matter(text: str, size: int) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    whole, cut = run(text), run(*pieces)
    assert (whole.lines, whole.characters) == (cut.lines, cut.characters)
    assert whole.lines == text[len(text.rstrip()) :].count("\n")
