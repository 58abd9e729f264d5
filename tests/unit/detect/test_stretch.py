"""Scans and windows of one channel."""

from __future__ import annotations

import pytest

from guard.detect.prompt import Prompt
from guard.detect.repetition import Repetition
from guard.detect.stretch import Pages

PAGE = 32
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh")
NAMES = [
    "rare_characters", "odd_characters", "script_salad", "glued_scripts", "garble", "symbol_salad", "word_recurrence",
    "recurrence_fall", "familiar_words", "fresh_words", "stutter", "word_clash", "counting",
]  # fmt: skip


def feed(pages: Pages, text: str) -> None:
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        pages.feed(text[start : start + PAGE])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 5, None])
def test_every_signal_is_made_read_and_explained(name: str, size: int | None) -> None:
    pages = Pages(Prompt("Tell me about boats."), PAGE)
    part = pages.part(name, size)
    feed(pages, "plain words and then ж漢\ufffd of the in of the in the in, 7 8 9 10 " * 9)
    part.value()
    assert part.pages_back() >= 0
    assert part.why(name, 0.5)


def test_nothing_is_wanted_until_a_signal_is() -> None:
    pages = Pages(Prompt(), PAGE)
    assert not pages.wanted
    with pytest.raises(KeyError):
        pages.part("nonsense", 3)


def test_windows_that_rested_while_text_was_plain_see_what_comes_next() -> None:
    pages = Pages(Prompt(), PAGE)
    rare = pages.part("rare_characters", 4)
    feed(pages, "nothing to see in this line at all. " * 40 + "\ufffd" * 2 * PAGE)
    assert rare.value() >= 0.25
    feed(pages, "nothing to see in this line at all. " * 40)
    assert rare.value() == 0.0


def test_text_without_sense_that_was_asked_for_is_not_garbled() -> None:
    salad = "k9X,.bQ(7r-Lm;zP4#w " * 12
    asked, other = Pages(Prompt("Invent random passwords for me."), PAGE), Pages(Prompt("Tell me a story."), PAGE)
    readers = [pages.part("garble", 5).value for pages in (asked, other)]
    for pages in (asked, other):
        feed(pages, salad)
    assert readers[0]() == 0.0
    assert readers[1]() > 0.2


def test_numbers_count_only_where_none_was_asked_for() -> None:
    for prompt, expected in (("Count from 1 to 90.", False), ("", False), ("How do boats float?", True)):
        pages = Pages(Prompt(prompt), PAGE)
        value = pages.part("counting", None).value
        feed(pages, " ".join(map(str, range(1, 90))))
        assert (value() > 40) is expected


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("".join(f"{n}. " for n in range(90)), True),
        ("".join(f"{n}.\n" for n in range(90)), True),
        ("".join(f"{n}, " for n in range(90)), False),
        ("".join(f"{n}.5; " for n in range(90)), False),
    ],
)
def test_numbers_of_items_in_which_nothing_stands_count_more(text: str, more: bool) -> None:
    loop = Repetition()
    with_text, without = Pages(Prompt("How do boats float?"), PAGE, loop), Pages(Prompt("How do boats float?"), PAGE)
    parts = [pages.part("counting", None) for pages in (with_text, without)]
    for start in range(0, len(text) - PAGE, PAGE):
        loop.feed(text[start : start + PAGE])
        for pages in (with_text, without):
            feed(pages, text[start : start + PAGE])
        values = [part.value() for part in parts]
        assert (values[0] > values[1]) is (more and values[1] > 24)


@pytest.mark.parametrize(
    ("name", "prompt", "asked", "text"),
    [
        (
            "counted_words", "Pray for us.", "Count for us.",
            "".join(f"The {word} word is a word.\n" for word in ORDINALS),
        ),
        ("nested_again", "Show me JSON.", "Show me nested JSON.",
         "".join(f"{' ' * n}\"kind\": \"a machine\",\n{' ' * n}\"machine\": {{\n" for n in range(19))),
    ],
)  # fmt: skip
def test_what_is_worked_out_from_the_latest_text_is_nothing_where_it_was_asked_for(
    name: str, prompt: str, asked: str, text: str
) -> None:
    for wish, expected in ((prompt, True), (asked, False)):
        loop = Repetition()
        pages = Pages(Prompt(wish), PAGE, loop)
        part = pages.part(name, None)
        for start in range(0, len(text) - PAGE, PAGE):
            loop.feed(text[start : start + PAGE])
            pages.feed(text[start : start + PAGE])
        assert (part.value() > 4.0) is expected
        assert part.why(name, 8.0)
    assert Pages(Prompt(prompt), PAGE).part(name, None).value() == 0.0


def test_a_refrain_is_expected_of_a_song_and_a_frame_of_a_list() -> None:
    line = "Oh carry me over the river to the place where I was born, and leave me there. "
    for prompt, expected in (("Sing a song of the river.", False), ("What is a river?", True)):
        pages = Pages(Prompt(prompt), PAGE)
        value = pages.part("familiar_words", 7).value
        feed(pages, line * 9)
        assert (value() > 0.9) is expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Copy the following text two times. The harbour office opens at seven.", True),
        ("Copy the following text two times. The permit must be issued by the harbour office, and then.", False),
        ("Say it nine times.", False),
        ("Write a song.", False),
    ],
)
def test_a_copy_may_come_again_only_as_often_as_asked_for_or_from_the_prompt(prompt: str, expected: bool) -> None:
    pages = Pages(Prompt(prompt), PAGE)
    value = pages.part("cycle_words", None).value
    feed(pages, "The permit must be issued by the harbour office, and then. " * 8)
    assert (value() > 40) is expected


def test_a_stutter_is_read_from_a_longer_window_where_there_is_one() -> None:
    text = "The ferry left at noon with the post. " * 4 + "not\n\n" * 16
    alone, shared = Pages(Prompt(), PAGE), Pages(Prompt(), PAGE)
    shared.part("stutter", 4)
    readings = [pages.part("stutter", 2).value for pages in (alone, shared)]
    for pages in (alone, shared):
        feed(pages, text)
    assert readings[0]() == readings[1]() > 0.3


@pytest.mark.parametrize(
    ("prompt", "item", "told"),
    [
        ("Give me a list of questions about boats.", "How does a windlass work?", True),
        ("Give me a table of questions about boats.", "How does a windlass work?", False),
        ("Write a list for a song about boats.", "How does a windlass work?", False),
        ("Haz una lista de preguntas sobre barcos.", "How does a windlass work?", False),
        ("Give me a list of rooms.", "Conference suite Amsterdam", False),
        ("Give me a list of rules.", "margin: 0; padding: 0; is {a: 1; the: 2}", False),
    ],
)
def test_a_list_whose_sentences_are_all_the_same_is_no_list(prompt: str, item: str, told: bool) -> None:
    pages = Pages(Prompt(prompt), PAGE)
    value = pages.part("familiar_words", 7).value
    feed(pages, "".join(f"{number}. {item}\n" for number in range(1, 40)))
    assert (value() > 0.9) is told


def test_a_list_that_brings_something_new_in_each_item_is_expected() -> None:
    pages = Pages(Prompt("Give me a list of questions about boats."), PAGE)
    value = pages.part("familiar_words", 7).value
    feed(
        pages,
        "".join(f"{number}. How does a {'xyz'[number % 3] * number} work?\n" for number in range(40)),
    )
    assert value() == 0.0


def test_a_word_that_each_round_brings_is_new_for_the_whole_of_it() -> None:
    said = (
        "wet your hands, lift one side of the dough, stretch it up and fold it over, then turn the bowl a quarter and "
        "go on until you have been round once; cover it with a cloth, set a clock, and let it rest while you read. "
    )
    text = "".join(f"{name}: {said}" for name in ("Morning", "Noon", "Evening", "Supper", "Bedtime"))
    loop = Repetition()
    alone, whole = Pages(Prompt(), PAGE), Pages(Prompt(), PAGE, loop)
    short, long = alone.part("fresh_words", 4), whole.part("fresh_words", 4)
    seen = []
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        for one in (loop, alone, whole):
            one.feed(text[start : start + PAGE])
        seen.append((short.value(), long.value()))
    late = seen[2 * len(said) // PAGE :]
    assert min(found for found, _ in late) == 0.0
    assert min(found for _, found in late) > 0.0
