"""Text that adds hardly anything to what stood right before it."""

from __future__ import annotations

import math

import pytest

from guard.detect.channel import TextChannel
from guard.detect.prompt import Prompt
from guard.detect.sameness import MOST, added, meant, sameness
from guard.types import SignalRef, Unit, Window
from tests.bench.detect_cost import prose

PLAIN = "Tell me of the ferry."

SAME = "The flute is played by blowing air through a mouthpiece. " * 14
LETTERS = "".join(f"{'ABCDE'[place * place % 5]}.\n" for place in range(200))
SUMS = "24*12 = " * 60


def read(text: str, prompt: str = PLAIN, size: int = 64, per_token: int = 4) -> float:
    """The reading after a text in tokens of so many characters."""
    channel = TextChannel((SignalRef("sameness", Window(size, Unit.TOKENS)),), Prompt(prompt))
    for start in range(0, len(text), per_token):
        channel.feed(text[start : start + per_token], start // per_token, start // per_token + 1)
    (reader,) = channel.readers
    return reader()


def test_what_comes_back_is_the_same() -> None:
    assert read(prose(400) + SAME) > 0.8


@pytest.mark.parametrize("loop", [LETTERS, SUMS])
def test_so_are_letters_in_any_order_and_sums(loop: str) -> None:
    assert read(prose(400) + loop, per_token=1) > 0.5


@pytest.mark.parametrize("start", range(0, 2400, 400))
def test_prose_is_not(start: int) -> None:
    assert read(prose(4000)[start : start + 800]) < 0.2


def test_a_passage_said_once_more_is_not() -> None:
    passage = prose(500)
    assert read(passage + passage) < 0.2


def test_it_is_not_known_before_the_window_is_full() -> None:
    assert math.isnan(read(SAME[:200]))
    assert math.isnan(read(""))


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Make a table of soups.",
        "Write a song about a flute.",
        "Repeat after me: the flute is played.",
        "Draw a chess board.",
        "How do I knit a flute?",
        "Opowiedz o starym zegarze.",
    ],
)
def test_it_is_nothing_where_it_may_have_been_asked_for(prompt: str) -> None:
    assert read(prose(400) + SAME, prompt) == 0.0


def test_what_stands_in_the_prompt_is_no_loop() -> None:
    assert read(prose(400) + SAME, f"Correct this: {SAME[:120]}") == 0.0


def test_the_words_of_the_prompt_may_be_what_is_to_be_said_so_often() -> None:
    text = "happy birthday " * 60
    assert read(text, "Wish my aunt a happy birthday, 60 fold.") == 0.0
    assert read(text, "Wish my aunt all the best, 60 fold.") > 0.8


def test_figures_may_be_what_was_asked_for_by_number() -> None:
    assert meant(Prompt("Give me 40 sums."), SUMS)
    assert not meant(Prompt(PLAIN), SUMS)


@pytest.mark.parametrize("flood", ["0", "-", "= ", "\n", "0, "])
def test_one_sign_alone_is_another_detectors_matter(flood: str) -> None:
    assert read(prose(400) + flood * 400) == 0.0


def test_what_is_known_takes_few_bytes() -> None:
    assert added(SAME[:200], SAME[:100]) < 16 < added(prose(200), SAME[:100])
    assert added("\ud800" * 20, "") < 40


@pytest.mark.parametrize("text", ["a" * MOST, prose(MOST), "\U0001f600" * MOST, "\u8239" * MOST])
def test_it_stays_within_its_range(text: str) -> None:
    assert 0.0 <= sameness(Prompt(PLAIN), text, text, 1) <= 1.0
    assert 0.0 <= sameness(Prompt(PLAIN), text, "", MOST) <= 1.0


def test_tokens_of_many_characters_are_read_over_fewer_of_them() -> None:
    indented = "".join("'POST': {\n" + " " * 60 for _ in range(40))
    assert read(indented, per_token=35) > 0.4
