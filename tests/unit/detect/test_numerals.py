"""Sentences that differ in a numeral alone."""

from __future__ import annotations

import pytest

from guard.detect.numerals import alike
from tests.bench.detect_cost import prose

ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"]
CARDINALS = ["One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Twenty-one", "Forty two"]


def said(frame: str, numerals: list[str]) -> str:
    return "A text begins. And it goes on.\n" + "".join(frame.format(word) for word in numerals) + "The"


@pytest.mark.parametrize(
    "frame",
    [
        "### The {} word is a word,\n\n",
        "The {} word is a word. ",
        "- **{}** is a word among others\n",
        "And then they came to the {}, as before! ",
    ],
)
def test_they_are_counted_in_lists_and_in_running_text(frame: str) -> None:
    assert alike(said(frame, ORDINALS)) == len(ORDINALS)
    assert alike(said(frame, CARDINALS)) == len(CARDINALS)


def test_figures_before_them_and_within_do_not_matter() -> None:
    text = "So.\n" + "".join(f"{n}. The {word} line has {7 * n} words\n" for n, word in enumerate(ORDINALS)) + "12"
    assert alike(text) == len(ORDINALS)


def test_another_word_ends_the_run() -> None:
    text = said("The {} word is a word.\n", ORDINALS)
    assert alike(text[:-3] + "The twelfth word is a song.\nThe") == 1
    assert alike(text[:-3] + "That was all of it, and nothing followed.\nThe") == 0


def test_a_countdown_says_nothing_but_its_numerals() -> None:
    assert alike(said("{}! ", CARDINALS)) == 0


def test_what_is_the_same_to_the_letter_is_another_matter() -> None:
    assert alike(said("The {} word is a word.\n", ["first"] * 20)) == 0
    assert alike(said("The {} word is a word.\n", [word for word in ORDINALS for _ in "ab"])) == 2 * len(ORDINALS)


def test_so_are_figures() -> None:
    assert alike(said("The {}. word is a word.\n", [str(n) for n in range(20)])) == 0


@pytest.mark.parametrize("start", range(0, 2400, 400))
def test_prose_has_none(start: int) -> None:
    assert alike(prose(4000)[start : start + 1200]) <= 1


@pytest.mark.parametrize("text", ["", "one", "One. Two. Three.", "\n\n\n", "the first\nthe second\n"])
def test_little_text_has_none(text: str) -> None:
    assert alike(text) <= 1


def test_many_are_not_counted_to_the_end() -> None:
    numerals = [f"{tens}-{one}" for tens in ("twenty", "thirty", "forty", "fifty") for one in CARDINALS[:9]]
    assert alike(said("A {} sign is on it.\n", numerals)) == 32 < len(numerals)
