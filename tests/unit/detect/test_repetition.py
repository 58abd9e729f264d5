"""The period of the suffix is exact, and nothing hides it."""

from __future__ import annotations

import pytest

from guard.detect.repetition import MAX_PERIOD, Repetition, plainness, round_of

PROSE = (
    "The lighthouse keeper wrote down the weather every evening, and once a week she walked to the "
    "village for bread, lamp oil and whatever letters the boat had brought across the bay. "
)


def follow(text: str) -> Repetition:
    loop = Repetition()
    for start in range(0, len(text) - len(text) % 16, 16):
        loop.feed(text[start : start + 16])
    return loop


@pytest.mark.parametrize("period", [1, 2, 3, 4, 7, 24, 31, 97, 500, 1999, MAX_PERIOD])
def test_any_period_is_found_exactly(period: int) -> None:
    # Digits of a long counter never repeat within a period.
    passage = "".join(f"{n}," for n in range(period))[-period:]
    loop = follow(PROSE + passage * (2 + 4096 // period))
    assert loop.period == period


def test_the_loop_that_defeats_last_seen_positions() -> None:
    loop = follow("a b a c " * 20)
    assert (loop.period, loop.count) == (8, 20.0)


@pytest.mark.parametrize(
    ("passage", "least", "most"),
    [
        (PROSE, 1.0, 1.0),
        ("A. A\nB. B\n(It's 12:30 - no, 'later'!)\n", 1.0, 1.0),
        ("| Plums | 5 |\n", 0.7, 0.9),
        ('<p class="note">It rains.</p>\n', 0.7, 0.9),
        ("self._names[place] = {name: n}\n", 0.6, 0.9),
        ("", 0.0, 0.0),
    ],
)
def test_code_and_markup_are_told_by_their_marks(passage: str, least: float, most: float) -> None:
    assert least <= plainness(passage) <= most


def test_prose_does_not_repeat() -> None:
    loop = follow(PROSE)
    assert (loop.count, loop.characters, loop.letters) == (1.0, 0, 0.0)


def test_a_run_noticed_late_is_counted_from_its_start() -> None:
    loop = follow(PROSE + "I will look again. " * 12)
    assert loop.period == 19
    assert 11 <= loop.count <= 12


def test_a_shorter_period_takes_over_as_soon_as_the_longer_one_breaks() -> None:
    loop = follow(PROSE * 6 + "!" * 64)
    assert loop.period == 1


def test_the_end_of_a_loop_is_seen() -> None:
    loop = follow("again and " * 30 + PROSE)
    assert loop.count == 1.0


def test_letters_tell_a_sentence_from_a_rule() -> None:
    assert follow("and so on " * 30).letters == pytest.approx(0.7)
    assert follow("| --- " * 40).letters == 0.0


def test_memory_does_not_grow() -> None:
    loop = Repetition()
    for index in range(5000):
        loop.feed(f"{index:016d}")
    assert len(loop._text) < 3 * MAX_PERIOD


def test_a_round_is_as_long_as_what_comes_back_though_words_in_it_change() -> None:
    names = ["heather", "gorse", "bracken"]
    text = "".join(f"{PROSE}Then came the {name} in bloom, and nobody was surprised at it. " for name in names)
    assert round_of(text) == pytest.approx(len(text) / 3, abs=8)
    assert round_of("Knock on wood. " * 30) == 15


@pytest.mark.parametrize("text", ["", "x", "short text", PROSE, PROSE[:160] + "0123456789"])
def test_text_that_does_not_come_back_has_no_round(text: str) -> None:
    assert round_of(text) == 0
