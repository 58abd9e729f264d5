"""Whether running text ceased to be sentences where acceptance fell."""

from __future__ import annotations

import math

import pytest

from guard.detect.prompt import Prompt
from guard.detect.sentences import MOST, STRETCH, SentenceBreak, joints_a_word

PAGE = 64
SEA = (
    "The ferry crosses the sound twice each morning, and the pilot of the ferry knows every rock in the sound. "
    "Passengers wait on the quay until the pilot waves; the quay is old, and the rocks below the quay are older. "
    "When fog lies over the sound the ferry stays at the quay, the passengers drink tea and the pilot tells stories "
    "of rocks, of storms and of a boat that was lost before he was born, with all who were in it. "
)
#: Words at random, a few of them broken, about as many that sentences need as in other text of the kind.
BITS = (
    "lantern who over marble seven of quarter ,harness the dry fellow first weekend carrots and before windowIsh "
    "mapping. the others cubic tower baker, fence to loud April by nearest gloves copper with island mouth after "
    ".pencil it seldom. wide sleeping ticket in plum northern any forged melon was collar up bright saddle winter of "
    "spoken ladder, gravel from thumbSalt kept under apron. clever museum on hay fifth borrowed, those pigeons velvet "
)


def read(before: str, after: str, prompt: str = "") -> float:
    """The reading once all of both was said, the fall between them."""
    broke, text, value = SentenceBreak(Prompt(prompt)), before + after, math.nan
    for end in range(PAGE, len(text) + 1, PAGE):
        value = broke.value(200, end - len(before), text[:end].encode())
    return value


def test_random_words_among_those_that_sentences_need_are_a_break() -> None:
    assert read(SEA, BITS) > 0.3


def test_sentences_that_go_on_are_none() -> None:
    assert read(SEA, "The pilot waits, and with him all who live by the ferry. " + SEA) == 0.0


def test_before_a_stretch_has_come_nothing_is_said() -> None:
    assert math.isnan(read(SEA, BITS[: STRETCH - 1]))
    assert not math.isnan(read(SEA, BITS[: STRETCH + 2 * PAGE]))


@pytest.mark.parametrize(
    "before",
    ["The ferry. ", BITS + BITS, "def post(self, account): return self.total[account].value(Ledger.now) " * 6],
    ids=["little", "no sentences", "code"],
)
def test_where_no_sentences_stood_before_nothing_is_said(before: str) -> None:
    assert math.isnan(read(before, BITS))


@pytest.mark.parametrize(
    "after",
    [
        BITS.replace(". ", ".\n").replace(", ", ",\n").replace(" the ", "\nthe ").replace(" of ", "\nof "),
        BITS.replace(" ,", ", ").replace(" .", ". ").replace("windowIsh", "window").replace("thumbSalt", "salt"),
        "".join(f"Kt{n}+ R{n}xc{n % 8} {n}.Bb{n % 7} exd{n % 6} " for n in range(60)),
        "".join(word[0].lower() + word[1:3] + " " for word in (BITS + BITS + BITS).split()) + "thumbSalt " * 2,
        (BITS[:120] + "quayIsh rocks, quay ,fog ") * 4,
    ],
    ids=["lines", "whole words", "moves", "short forms", "the same words"],
)
def test_what_sentences_turn_into_by_right_is_none(after: str) -> None:
    assert read(SEA, after) == 0.0


def test_text_without_sense_that_was_asked_for_or_shown_is_none() -> None:
    assert read(SEA, BITS, "Tell me of the ferry, and end in gibberish.") == 0.0
    assert read(SEA, BITS, "What is wrong with this answer? " + BITS) == 0.0
    assert read(SEA, BITS, "Tell me of the ferry.") > 0.3


def test_once_enough_has_come_the_reading_of_a_fall_stays_and_another_fall_is_read_anew() -> None:
    broke, text = SentenceBreak(Prompt()), SEA + BITS
    settled = broke.value(200, len(BITS), text.encode())
    assert len(BITS) >= MOST
    assert settled > 0.3
    assert "of the words since then are those that sentences need" in broke.why()
    later = (text + SEA).encode()
    assert broke.value(200, len(BITS) + len(SEA), later) == settled
    assert math.isnan(broke.value(900, 0, later))
    assert broke.value(900, len(SEA), later) != settled


def test_a_fall_that_is_not_in_the_text_any_more_is_unknown() -> None:
    broke = SentenceBreak(Prompt())
    assert math.isnan(broke.value(3, 5000, SEA.encode()))
    assert math.isnan(broke.value(3, 5064, (SEA + BITS).encode()))
    assert math.isnan(broke.value(4, -1, SEA.encode()))


def test_a_word_that_was_cut_by_the_fall_counts_as_before_it() -> None:
    broke, text = SentenceBreak(Prompt()), SEA + "lighthouse" + " " + BITS
    assert broke.value(7, len(BITS) + len("house "), text.encode()) == read(SEA + "lighthouse", " " + BITS)


def test_joints_are_counted_for_each_word() -> None:
    assert joints_a_word(SEA) == 0.0
    assert joints_a_word("windowIsh of thumbSalt ,and more. " * 8) > 0.3
    assert joints_a_word("Wörter ohne Fehler, auch größere. " * 8) == 0.0
