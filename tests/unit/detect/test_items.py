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
    return items.same_items()


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


def test_long_items_are_never_the_same_and_nothing_grows() -> None:
    items = ItemRun(PAGE, Prompt("Give me a list of nine soups."))
    for _ in range(20):
        for _ in range(200):
            items.feed("7. " + "x" * 61)
        items.feed("\n")
    assert items.same_items() == 0.0
    assert len(items._line) + len(items._last) <= 320
    for name in range(2000):
        items.feed(f"- {'x' * (name % 90)} soup\n")
    assert len(items._said) <= 32


def rows(prompt: str, text: str, page: int = PAGE) -> float:
    items = ItemRun(page, Prompt(prompt))
    for start in range(0, len(text), page):
        items.feed(text[start : start + page])
    return items.same_items()


TABLE = "| Fruit | Price |\n|---|---|\n"


@pytest.mark.parametrize("page", [1, 7, 64, 500])
def test_rows_that_only_count_on_are_too_many_beyond_what_was_asked_for(page: int) -> None:
    text = TABLE + "".join(f"| Plums | {5 * number} |\n" for number in range(1, 21))
    assert rows("Make a table of ten kinds of fruit.", text, page) == 19.0
    assert rows("Make a table of twenty kinds of fruit.", text, page) == 0.0


def test_rows_that_take_turns_are_too_many_as_well() -> None:
    text = "".join(f"* {('Bacon', 'Plums', 'Orange slices')[number % 3]}\n" for number in range(24))
    assert rows("Write an HTML list with eight kinds of fruit.", text) == 21.0


@pytest.mark.parametrize("page", [1, 7, 64, 500])
def test_numbered_rows_of_figures_alone_are_too_many_as_well(page: int) -> None:
    text = "| Weight | Price |\n" + "".join(f"| {10 + n}   | {2 + n // 3}.{n * 7 % 10}   |\n" for n in range(30))
    assert rows("Make a table of fifteen garden tools with weight and price.", text, page) == 29.0
    assert rows("Make a table of twenty garden tools with weight and price.", text, page) == 0.0
    assert rows("Make a table of fifteen garden tools with weight and price of each size.", text, page) == 0.0
    figures = "".join(f"{n}. 128.06661657119578\n" for n in range(1, 31))
    assert rows("Give me a list of ten numbers that I shall call.", figures, page) == 29.0
    assert rows("Give me a list of numbers that I shall call.", figures, page) == 0.0


def test_the_longest_numbers_are_no_counters() -> None:
    text = "".join(f"| {10**12 + number} | 7 |\n" for number in range(30))
    assert rows("Make a table of ten large numbers.", text) == 0.0


@pytest.mark.parametrize(
    ("prompt", "row"),
    [
        ("Make a table of ten kinds of fruit.", "| Fruit {letter} | {n} |\n"),
        ("Make a table of ten kinds of fruit.", "| {other} | {n} |\n"),
        ("Make a table of ten kinds of fruit.", "|{other}|\n| {n} | {other} |\n"),
        ("Make a table of ten kinds of fruit in each month.", "| {n} | {other} |\n"),
        ("Make a table of prices.", "| {n} | {other} |\n"),
        ("Make a table of prices.", "| Plums | {n} |\n"),
        ("Make a table of five fruits and their prices in 12 months.", "| Month {n} | 5 | 7 | 9 | 8 | 6 |\n"),
        ("Make a table with six short columns about plums.", "| Plums | {n} |\n"),
        ("Make a table of two players and their points.", "| Round {n} | 1 | 2 |\n"),
        ("Make a table of ten kinds of fruit.", "Plums cost {n} crowns.\n"),
    ],
)
def test_new_rows_figures_and_what_was_not_counted_are_not_too_many(prompt: str, row: str) -> None:
    text = "".join(row.format(n=number, letter=chr(65 + number), other=number * 7 % 25) for number in range(25))
    assert rows(prompt, text) == 0.0


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


def renumbered(text: str, prompt: str = "Write down all colours you know.", page: int = PAGE) -> float:
    items = ItemRun(page, Prompt(prompt))
    for start in range(0, len(text), page):
        items.feed(text[start : start + page])
    return items.renumbered()


RED = "#define COLOUR_RED\n#define COLOUR_BLUE\n" + "".join(f"#define COLOUR_RED_{n}\n" for n in range(1, 21))
COLUMNS = "| Column  | Row  |\n|---|---|\n" + "".join(f"| Column {n} | Row {n + 1} |\n" for n in range(1, 21))


@pytest.mark.parametrize("text", [RED, COLUMNS])
@pytest.mark.parametrize("page", [1, 7, 64, 500])
def test_figures_put_to_a_row_that_stood_there_are_counted(text: str, page: int) -> None:
    assert renumbered(text, page=page) == 20.0


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Write 16 constants for colours.", 20.0),
        ("Write 24 constants for colours.", 0.0),
        ("Write a template for constants.", 0.0),
        ("", 0.0),
    ],
)
def test_the_prompt_may_want_as_many(prompt: str, found: float) -> None:
    assert renumbered(RED, prompt) == found


@pytest.mark.parametrize(
    "text",
    [
        RED.replace("#define COLOUR_RED\n", ""),
        RED.replace("#define COLOUR_RED\n", "#define COLOUR_RED 0\n"),
        "- Day\n" + "".join(f"- Day {n}\n" for n in range(20)),
        "- Monday morning\n" * 20,
        RED + "And that is all.\n",
        RED + "#define COLOUR_GREEN\n",
        "",
    ],
)
def test_names_that_had_figures_from_the_first_are_names(text: str) -> None:
    assert renumbered(text) == 0.0


def same_numbers(text: str, prompt: str = "Which towns lie on the river?", page: int = PAGE) -> float:
    items = ItemRun(page, Prompt(prompt))
    for start in range(0, len(text), page):
        items.feed(text[start : start + page])
    return items.same_numbers()


LONG = "128.06661657119578"
HEADER = "| Town | Length |\n|---|---|\n"


@pytest.mark.parametrize("page", [1, 7, 64, 500])
@pytest.mark.parametrize("marker", ["{}. ", "{}) ", "**{}.** ", "{}, -", "| {} | "])
def test_rows_that_hold_one_long_number_are_counted(marker: str, page: int) -> None:
    assert same_numbers("Towns by length:\n" + numbered(LONG, 9, marker), page=page) == 9.0
    assert same_numbers(HEADER + numbered(f"{LONG} |", 9, marker), page=page) == 9.0


@pytest.mark.parametrize(
    "text",
    [
        # values that settle, a row that differs, or a number that does not climb
        "1. 1.00000000000000\n2. 1.50000000000000\n" + "".join(f"{n}. 1.41421356237310\n" for n in range(3, 30)),
        numbered(LONG, 20) + "21. 128.06661657119579\n",
        numbered(LONG, 20) + "22. 128.06661657119578\n",
        numbered(LONG, 20) + "21. Ravenna\n",
        numbered(LONG, 20) + "22. Ravenna\n" + "".join(f"{n}. {LONG}\n" for n in range(23, 30)),
        numbered(LONG, 20) + "And so they lie.\n",
        f"7. {LONG}\n" * 20,
        f"{LONG}\n" * 20,
        numbered(LONG, 2),
        # short ones, those of few different figures, and what is no number
        numbered("1,250.75", 20),
        numbered("0.000000000000000000", 20),
        numbered("1.333333333333333", 20),
        numbered("2025-11-07 03:14:26", 20),
        numbered("800 123 456 790", 20),
        numbered("1.602176634e-19", 20),
        numbered("0x1602176634af0", 20),
        numbered("", 20),
    ],
)
def test_values_that_settle_short_numbers_dates_and_names_are_not(text: str) -> None:
    assert same_numbers(text) == 0.0


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Which towns lie on the river? I know of 12.",
        "Wie heißen alle diese Orte?",
        "Give me the values of the table.",
        "Work it out by every formula there is.",
        "What does the program print?",
        f"Write {LONG} in each line.",
    ],
)
def test_numbers_may_be_asked_for(prompt: str) -> None:
    assert same_numbers(numbered(LONG, 20), prompt) == 0.0


def test_a_list_after_another_begins_anew() -> None:
    assert same_numbers(numbered("Ravenna and Siena", 9) + "Lengths:\n" + numbered(LONG, 5)) == 5.0
