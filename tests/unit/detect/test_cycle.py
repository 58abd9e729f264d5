"""The same words over and over, whatever stands between them."""

from __future__ import annotations

import random

import pytest

from guard.detect.cycle import WordCycle
from guard.detect.familiar import FamiliarScan
from guard.detect.prompt import Prompt
from guard.detect.stretch import Pages
from guard.detect.words import WordScan

PAGE = 64
START = "A good long sentence that says a thing or two before anything goes wrong in the answer at all.\n"
PERMIT = "the permit must be issued by the harbour office"


def scan(text: str) -> WordCycle:
    words, found = WordScan(), FamiliarScan()
    found.cycle = WordCycle()
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        page = text[start : start + PAGE]
        words.feed(page)
        found.feed(words.tokens, sum(map(str.isalpha, page)))
    return found.cycle


def nested(levels: int) -> str:
    """Code that goes ever deeper: no period in characters."""
    return START + "".join(f"{'  ' * (n % 9)}return function(){{\n" for n in range(levels))


def test_an_indent_that_changes_does_not_hide_a_loop() -> None:
    assert 2 * 24 <= scan(nested(30)).value() <= 2 * 31


def test_marks_blanks_and_case_do_not_hide_a_loop() -> None:
    dice = random.Random(3)
    ends = [". ", ", ", "! ", ".\n\n"]
    rounds = [dice.choice([PERMIT, PERMIT.capitalize()]) + dice.choice(ends) for _ in range(9)]
    assert scan(START + "".join(rounds)).value() > 6 * 9


def test_a_phrase_that_comes_twice_in_a_passage_does_not_hide_the_passage() -> None:
    passage = f"{PERMIT} and so {PERMIT}; ask again. "
    assert scan(START + passage * 5).value() >= 3 * 22


def test_said_twice_is_no_cycle() -> None:
    assert scan(START + f"{PERMIT}, as it says here. " * 2 + START).value() == 0.0


def test_running_text_and_rows_with_something_new_are_none() -> None:
    dice = random.Random(7)
    row = "".join(f"insert into parts values ({n}, 'part {dice.randint(100, 900)}');\n" for n in range(60))
    assert scan(START * 2).value() == 0.0
    assert scan(START + row).value() == 0.0


def test_figures_repeat_by_right() -> None:
    assert scan(START + "0 1 0 0 1\n" * 60).value() == 0.0
    assert scan(START + "0, on, off, 1\n" * 60).value() > 100


def test_names_that_begin_with_a_low_line_are_words_too() -> None:
    assert scan(START + "".join(f"    .word _irq{n}\n" for n in range(64))).value() == 0.0
    assert scan(START + "push _all and call _it\n" * 60).value() > 100


def test_something_new_ends_it() -> None:
    assert (
        scan(nested(30) + "const entirely = different * words + here; // and nothing of the old\n" * 1).value() == 0.0
    )


def test_the_second_round_is_the_onset() -> None:
    cycle = scan(START + f"{PERMIT}! ".upper() * 8)
    # Eight rounds of 49 characters, of which the first is the text's own.
    assert 7 * 49 / PAGE - 2 <= cycle.pages() <= 7 * 49 / PAGE + 2
    assert scan(START).pages() == 0


def test_memory_is_bounded() -> None:
    cycle = scan(START + "on and on " * 4000)
    assert cycle.value() == 160
    assert len(cycle._words) <= 256 + PAGE
    assert len(cycle._counts) <= 64


@pytest.mark.parametrize(
    ("prompt", "found"), [("", True), ("Write a function.", True), ("Write a song with a refrain.", False)]
)
def test_a_refrain_may_be_asked_for(prompt: str, found: bool) -> None:
    pages = Pages(Prompt(prompt), PAGE)
    part = pages.part("cycle_words", None)
    for start in range(0, 1600, PAGE):
        pages.feed(nested(80)[start : start + PAGE])
    assert (part.value() > 0) is found
    assert part.why("cycle_words", 40.0) == "the latest 40 words are one passage over and over"
