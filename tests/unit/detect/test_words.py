"""How often words come back."""

from __future__ import annotations

import math

import pytest

from guard.detect.words import WordScan, WordWindow, parts_again, parts_grown


def read(text: str, blocks: int = 15) -> float:
    scan, window = WordScan(), WordWindow(blocks)
    for start in range(0, len(text) - len(text) % 16, 16):
        scan.feed(text[start : start + 16])
        window.add(scan.tokens)
    return window.value()


def test_prose_repeats_some() -> None:
    text = (
        "The baker said that the oven was too hot for the bread, so she opened the door and waited until "
        "the air in the room had cooled. Then she put the loaves in, and the smell of the bread filled the "
        "street while the first people came to the shop. "
    )
    assert 0.1 < read(text) < 0.45


def test_a_random_draw_repeats_none_and_a_loop_repeats_most() -> None:
    draw = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26)}or" for i in range(120))
    assert read(draw) == 0.0
    assert read("its shape its human part its shape of a human " * 12) > 0.6


def test_too_few_words_say_nothing() -> None:
    assert math.isnan(read("漢字かな交じり文を書いています。" * 10))
    assert math.isnan(read("0f3a9c 17 88 1e2f x9 " * 20))


def test_a_word_on_the_border_of_blocks_is_one_word() -> None:
    scan = WordScan()
    scan.feed("aaaa bbbb cccc d")
    scan.feed("ddd eeee ffff gg")
    assert scan.tokens == ["dddd", "eeee", "ffff"]


def test_an_endless_word_is_bounded() -> None:
    scan = WordScan()
    for _ in range(100):
        scan.feed("x" * 16)
    assert len(scan._open) <= 48


def window_of(text: str, blocks: int = 15) -> WordWindow:
    scan, window = WordScan(), WordWindow(blocks)
    for start in range(0, len(text) - len(text) % 16, 16):
        scan.feed(text[start : start + 16])
        window.add(scan.tokens)
    return window


PROSE = "It was late when the boat came in, and the people on the pier were glad to see the light of it. "


def test_a_fall_is_measured_against_earlier_windows() -> None:
    draw = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26)}or" for i in range(80))
    assert window_of(PROSE * 12 + draw).fall() > 0.9
    assert window_of(PROSE * 15).fall() < 0.2


def test_without_earlier_text_a_fall_is_unknown_and_names_cannot_fall() -> None:
    assert math.isnan(window_of(PROSE).fall())
    names = " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}or" for i in range(900))
    assert window_of(names).fall() == 0.0


def order(text: str) -> WordWindow:
    scan, window = WordScan(), WordWindow(20)
    for start in range(0, len(text) - len(text) % 16, 16):
        scan.feed(text[start : start + 16])
        window.add(scan.tokens)
    return window


def test_a_stutter_is_the_same_word_again() -> None:
    assert order("we we went went home home to to the the pier pier and and sat sat down down. ").stutter(20) > 0.4
    assert order("yes\nyes\nyes\nyes\nyes\nyes\nyes\nyes\nyes\nyes\nyes\nyes\n").stutter(20) > 0.8
    assert order(PROSE * 3).stutter(20) == 0.0
    assert order("17 17 17, --, -- == == " * 6).stutter(20) == 0.0
    # Where words are few, one that is said twice is none yet.
    assert order("=" * 90 + " done done " + "-" * 90).stutter(20) < 0.1


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("year_state_state_state_state", 3),
        ("_state_state_state_state_", 3),
        ("x_x_x_x_x_y_y_y_y", 7),
        ("year_state_state_state", 0),
        ("auth_user_user_permissions", 0),
        ("____", 0),
        ("1_000_000_000_000_000", 0),
        ("state", 0),
    ],
)
def test_a_name_says_itself_again_once_a_part_stands_there_four_times(name: str, again: int) -> None:
    assert parts_again(name) == again


def test_names_that_grow_and_grow_stutter() -> None:
    grown = ", ".join("year" + "_state" * times + ": str" for times in range(1, 12))
    assert order(grown).stutter(20) > 0.8
    assert parts_grown(["x" + "_x" * times for times in (3, 4, 5)]) == 12
    assert parts_grown(["x" + "_x" * times for times in (3, 4, 4, 5, 3, 4)]) == 0


def test_the_same_long_name_again_and_again_does_not() -> None:
    masks = "MASK = 'xx_xx_xx_xx_xx_xx' LONG = 'xx_xx_xx_xx_xx_xx_xx_xx'\n" * 6
    assert order(masks).stutter(20) == 0.0
    assert order("cha_cha_cha_01.mp3 na_na_na_na_hey.mp3\n" * 8).stutter(20) == 0.0


def test_a_stutter_is_looked_for_in_the_latest_pages() -> None:
    window = order(PROSE[:96] + "not\n\nnot\n\n" * 16)
    assert window.stutter(8) > 0.8
    assert window.stutter(8) > window.stutter(20) > 0.2


def test_function_words_in_an_impossible_order_clash() -> None:
    assert order("the of a and their has to of the was an in every from but the which of a ").clash() > 0.3
    assert order(PROSE * 3).clash() == 0.0
    assert order("Das Haus stand am Ende der Straße, und in den Fenstern war noch Licht. " * 3).clash() == 0.0


def test_prose_is_told_from_code() -> None:
    code = "for item in items:\n    if item not in seen and item is not None:\n        yield item\n" * 3
    assert order(PROSE * 3).prose(len(PROSE * 3))
    assert not order(code).prose(len(code))


def test_sentences_without_an_article_are_prose_too() -> None:
    text = "This is a very well-known and well-rehearsed performance. It's a very well-known one, and is as such so. "
    rows = "status is on, mode is off, and level is very high; all is as it is\n{}\n[]\n-- ++ == !! ?? ## ** ((\n"
    assert order(text * 3).prose(len(text * 3))
    assert not order(rows * 3).prose(len(rows * 3))


def test_pages_without_a_stutter_need_not_be_compared() -> None:
    grown = " ".join("year" + "_state" * times for times in range(9))
    twice = "we we went went home home to to the the pier. " * 2
    for text in (PROSE * 3, grown, twice, "a a\n" * 40, "x " * 9 + PROSE * 3):
        scan, told, blind = WordScan(), WordWindow(4), WordWindow(4)
        for start in range(0, len(text) - len(text) % 16, 16):
            scan.feed(text[start : start + 16])
            told.add(scan.tokens, scan.again)
            blind.add(scan.tokens)
            assert told.stutter(4) == blind.stutter(4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. How does a windlass work?\n2. What is it for?\n", True),
        ("1. Baklava with honey\n2. Baklava with nuts\n", False),
        ("a: 1px; the-in: 2px; of-to: is; it-was: on; ", False),
        ("", False),
    ],
)
def test_items_are_sentences_of_which_neither_markup_nor_names_are(text: str, expected: bool) -> None:
    scan, window = WordScan(), WordWindow(4)
    for _ in range(4):
        scan.feed(text * 3 or "\n")
        window.add(scan.tokens)
    assert window.items() is expected
