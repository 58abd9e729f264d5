"""Marks thrown together."""

from __future__ import annotations

import random

from guard.detect.symbols import SymbolWindow

PAGE = 32


def read(text: str, pages: int = 5) -> float:
    window = SymbolWindow(pages, PAGE)
    for start in range(0, len(text) - len(text) % PAGE, PAGE):
        page = text[start : start + PAGE]
        window.add(page, sum(not c.isalnum() and not c.isspace() for c in page))
    return window.value()


def test_marks_at_random_make_ever_new_pairs() -> None:
    dice = random.Random(3)
    assert read("".join(dice.choice("!#$%&*+-/:;<=>?@^_|~ ") for _ in range(300))) > 0.2


def test_code_and_drawings_use_the_same_pairs_again() -> None:
    assert read("for (let i = 0; i < list.length; i++) { total += list[i].price(); }\n" * 4) < 0.08
    assert read("+-----+-----+\n|     |     |\n" * 8) < 0.04


def test_prose_is_not_even_counted() -> None:
    assert read("The ferry left at nine; nobody (not even the pilot) had seen it come. " * 4) == 0.0
