"""One channel's text in blocks."""

from __future__ import annotations

import math

import pytest

from guard.detect.channel import BLOCK, PAGE, TextChannel, pages_in
from guard.detect.prompt import Prompt
from guard.types import SignalRef, Unit, Window

LOOP = SignalRef("repetition_count")
TOKENS = SignalRef("repetition_tokens")


def test_windows_are_rounded_up_to_pages() -> None:
    assert pages_in(Window(PAGE + 1, Unit.CHARACTERS)) == 2
    assert pages_in(Window(1, Unit.CHARACTERS)) == 1
    assert pages_in(None) is None


def test_a_reading_changes_only_when_a_block_is_complete() -> None:
    channel = TextChannel((LOOP,))
    assert not channel.feed("x" * (BLOCK - 1), 0, 1)
    assert channel.feed("x", 1, 2)


def test_tokens_and_onset_of_a_loop() -> None:
    channel = TextChannel((LOOP, TOKENS))
    words = ["An", " opening", " line", " that", " is", " long", " enough.", *[" again", " now."] * 40]
    for token, word in enumerate(words):
        channel.feed(word, token, token + 1)
    assert channel.readers[0]() > 30
    assert 70 <= channel.readers[1]() <= 82
    assert 5 <= channel.onset(0) <= 12


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(KeyError):
        TextChannel((SignalRef("nonsense"),))


def test_tokens_of_one_large_chunk_are_spread_over_its_text() -> None:
    channel = TextChannel((LOOP, TOKENS))
    channel.feed("An opening line that is long enough." + " again now." * 40, 0, 87)
    assert 70 <= channel.readers[1]() <= 82
    assert 5 <= channel.onset(0) <= 12


def test_a_repetition_the_prompt_asks_for_is_none() -> None:
    line = "I will shut the gate. "
    asked = TextChannel((LOOP,), Prompt('Write "I will shut the gate." 40 times.'))
    asked.feed(line * 30, 0, 200)
    assert asked.readers[0]() == 1.0
    asked.feed(line * 30, 200, 400)
    assert asked.readers[0]() > 50
    other = TextChannel((LOOP,), Prompt("Tell me about gates."))
    other.feed(line * 30, 0, 200)
    assert other.readers[0]() > 25


@pytest.mark.parametrize(
    ("prompt", "few", "many"),
    [("", 3.0, 5.0), ("Write a song.", 1.0, 5.0), ("Say it three times.", 1.0, 5.0), ("Say it two times.", 3.0, 5.0)],
)
def test_a_few_rounds_are_what_verses_and_copies_have(prompt: str, few: float, many: float) -> None:
    line = "I will shut the gate behind me when I leave, and open it when I come. "
    for rounds, expected in ((3, few), (5, many)):
        channel = TextChannel((LOOP,), Prompt(prompt))
        channel.feed("So be it, as was said. " + line * rounds + line[:16], 0, 200)
        assert channel.readers[0]() == expected


def test_an_onset_older_than_the_marks_is_the_oldest_mark() -> None:
    channel = TextChannel((LOOP,))
    for token in range(2000):
        channel.feed("again now. ", token, token + 1)
    assert channel.onset(0) < 2000


def test_where_acceptance_fell_is_found_in_the_text() -> None:
    known = " ".join(f"the {word} of the harbour" for word in ("boat", "keel", "mast", "rope") * 20) + " "
    other = " ".join(f"some {end}{word}" for word in ("lease", "court", "rent") for end in "abcdefghijklmnop") + " "
    fall: list[int | None] = [None]
    channel = TextChannel((SignalRef("topic_break"),), fell=lambda: fall[0])
    broke = channel.readers[0]
    for token, start in enumerate(range(0, len(known), 4)):
        channel.feed(known[start : start + 4], token, token + 1)
    fell = fall[0] = token + 1
    assert math.isnan(broke())
    for start in range(0, len(other), 4):
        token += 1
        channel.feed(other[start : start + 4], token, token + 1)
    assert broke() > 0.7
    assert channel.onset(0) == fell
    fall[0] = fell - 60
    assert not broke() > 0.7
    for none in (0, None):
        fall[0] = none
        assert math.isnan(broke())


def test_where_acceptance_fell_it_is_looked_at_whether_sentences_go_on() -> None:
    sentences = "The pilot of the ferry waits at the quay, and with him are all of those who live by the sound. " * 4
    bits = " ".join(
        f"{end}{word} " for word in ("lant", "marb ,", "copp", "velv", "fenc") for end in "abcdefghijklmnop"
    )
    fall: list[int | None] = [None]
    channel = TextChannel((SignalRef("sentence_break"), SignalRef("topic_break")), fell=lambda: fall[0])
    broke = channel.readers[0]
    for token, start in enumerate(range(0, len(sentences), 4)):
        channel.feed(sentences[start : start + 4], token, token + 1)
    fell = fall[0] = token + 1
    assert math.isnan(broke())
    for start in range(0, len(bits), 4):
        token += 1
        channel.feed(bits[start : start + 4], token, token + 1)
    assert broke() > 0.9
    assert channel.onset(0) == fell
    assert "0% of the words since then" in channel.why(0, broke())
    for other in (fell - 60, 0, None):
        fall[0] = other
        assert not broke() > 0.0


@pytest.mark.parametrize(
    ("passage", "prompt", "rounds"),
    [
        ("```\n\n", "Write a style sheet.", 40.0),
        ("\U0001f353", "Invite me to a picnic.", 192.0),
        ("\U0001f353", "Send me 500 strawberries.", 0.0),
        ("0, ", "Write zeros.", 0.0),
        ("ha ", "Laugh.", 0.0),
    ],
)
def test_rounds_of_marks_alone_are_told_unless_the_prompt_names_as_many(
    passage: str, prompt: str, rounds: float
) -> None:
    channel = TextChannel((SignalRef("repetition_marks"),), Prompt(prompt))
    assert channel.readers[0]() == 0.0
    channel.feed(passage * 300, 0, 300)
    assert channel.readers[0]() >= rounds if rounds else channel.readers[0]() == 0.0


@pytest.mark.parametrize(
    ("passage", "prompt", "rounds"),
    [
        ("-0.00000000000000001 - 10.2018-01-20 14:22:52.142 ", "Write what a server logs.", 6.0),
        ("-0.00000000000000001 - 10.2018-01-20 14:22:52.142 ", "Write a table of what a server logs.", 0.0),
        ("-0.00000000000000001 - 10.2018-01-20 14:22:52.142 ", "", 0.0),
        ("010309278350515463917525773195876288659793", "What is the 97th part of a cake?", 0.0),
        ("142857 ", "What is the seventh part of a cake?", 0.0),
        ("0 0 1 0 0 0 1 0 0 0 1 0 0 0 1 0\n", "How do I walk in step?", 0.0),
        ("at 14:22:52.142 of 2018-01-20, on 10.137 ", "Write what a server logs.", 0.0),
    ],
)
def test_rounds_of_figures_are_told_where_none_were_asked_for(passage: str, prompt: str, rounds: float) -> None:
    channel = TextChannel((SignalRef("repetition_figures"),), Prompt(prompt))
    assert channel.readers[0]() == 0.0
    channel.feed(passage * 8, 0, 8 * len(passage) // 2)
    assert channel.readers[0]() >= rounds if rounds else channel.readers[0]() == 0.0


def test_the_room_lasts_to_the_end_of_the_page_and_in_a_loop_of_the_block() -> None:
    channel = TextChannel((LOOP, SignalRef("garble", Window(PAGE, Unit.CHARACTERS))))
    assert channel.room == PAGE
    channel.feed("A line of prose", 0, 3)
    assert channel.room == PAGE - 15
    channel.feed(" that goes on and reaches past the end of a page soon.", 3, 12)
    assert channel.room == 2 * PAGE - 69
    channel.feed("again now, " * 12, 12, 50)
    assert 0 < channel.room <= BLOCK
