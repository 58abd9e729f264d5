"""Words in a row without a mark."""

from __future__ import annotations

from guard.detect.plain import PlainRun
from guard.detect.shape import code_of

PAGE = 64


def words(text: str) -> int:
    run = PlainRun(PAGE)
    for start in range(0, len(text) - PAGE + 1, PAGE):
        page = text[start : start + PAGE]
        run.feed(page, bytes(map(code_of, page)))
    return run.words


def test_counts_on_while_no_mark_comes() -> None:
    assert words("teress ment ishtor ustell gramo " * 12) == 60


def test_a_mark_a_digit_and_a_line_end_begin_anew() -> None:
    for mark in (".", ", ", "7", "\n"):
        assert words("teress ment ishtor ustell gramo " * 10 + mark + "one two three " * 5) < 20


def test_letters_of_every_script_go_on() -> None:
    assert words("паром ушёл рано утром берег тихий " * 10) > 50


def test_characters_are_those_of_the_row() -> None:
    run = PlainRun(PAGE)
    page = ("." + "a" * 7 + " " + "b" * 55)[:PAGE]
    run.feed(page, bytes(map(code_of, page)))
    assert (run.words, run.characters) == (1, 63)
