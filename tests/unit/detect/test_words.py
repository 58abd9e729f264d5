"""How often words come back."""

from __future__ import annotations

import math

from guard.detect.words import WordScan, WordWindow


def read(text: str, blocks: int = 15) -> float:
    scan, window = WordScan(), WordWindow(blocks)
    for start in range(0, len(text) - len(text) % 16, 16):
        scan.feed(text[start : start + 16])
        window.add(scan.words)
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
    assert scan.words == ["dddd", "eeee", "ffff"]


def test_an_endless_word_is_bounded() -> None:
    scan = WordScan()
    for _ in range(100):
        scan.feed("x" * 16)
    assert len(scan._open) <= 48
