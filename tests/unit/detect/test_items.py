"""The same list item under ever new numbers."""

from __future__ import annotations

import pytest

from guard.detect.items import ItemRun
from guard.detect.prompt import Prompt
from guard.detect.stretch import Pages

PAGE = 64


def run(text: str, page: int = PAGE) -> float:
    items = ItemRun(page, Prompt("Give me a list of soups."))
    for start in range(0, len(text), page):
        items.feed(text[start : start + page])
    return items()


def numbered(item: str, rounds: int, marker: str = "{}. ") -> str:
    return "".join(f"{marker.format(number)}{item}\n" for number in range(1, rounds + 1))


@pytest.mark.parametrize("marker", ["{}. ", "{}) ", "### {}. ", "**{}.** ", "- {}: ", "  {}. **"])
@pytest.mark.parametrize("gap", ["", "\n"])
def test_items_that_differ_in_their_number_only_are_counted(marker: str, gap: str) -> None:
    text = "A menu of soups:\n" + numbered("Bread and Cheese**" + gap, 14, marker)
    assert run(text) == 14.0
    assert {run(text, page) for page in (1, 7, 16, 500)} == {14.0}


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{number}. Conference room {number}\n" for number in range(20)),
        "".join(f"Conference room {number}\n" for number in range(20)),
        numbered("Yes, true", 20),
        numbered("128.06661657119578", 20),
        numbered("____________", 20),
        "Bread and Cheese, again.\n" * 20,
        "",
    ],
)
def test_names_with_numbers_short_answers_figures_and_lines_without_a_number_are_none(text: str) -> None:
    assert run(text) <= 1.0


def test_anything_else_ends_the_run() -> None:
    assert run(numbered("Bread and Cheese", 9) + "10. Bread and Butter\n") == 1.0
    assert run(numbered("Bread and Cheese", 9) + "That is all that there is.\n") == 0.0


def test_long_items_are_compared_by_their_beginning_and_nothing_grows() -> None:
    items = ItemRun(PAGE, Prompt())
    for _ in range(2000):
        items.feed("7. " + "x" * 61)
    items.feed("\n")
    assert items() == 1.0
    assert len(items._line) + len(items._last) <= 320


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("Give me a list of thirty recipes with potatoes.", True),
        ("Write the line fifteen times, numbered, please.", False),
        ("Make a table of the recipes.", False),
        ("Eine Liste von Rezepten.", False),
    ],
)
def test_what_the_prompt_may_ask_for_is_no_fault(prompt: str, told: bool) -> None:
    pages = Pages(Prompt(prompt), PAGE)
    part = pages.part("same_items", None)
    text = numbered("Baked Potatoes", 20)
    for start in range(0, len(text) - PAGE, PAGE):
        pages.feed(text[start : start + PAGE])
    assert (part.value() > 12) is told
    assert 4 <= part.pages_back() <= 7
