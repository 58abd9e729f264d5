"""Levels that say again what the levels around them said."""

from __future__ import annotations

import pytest

from guard.detect.nesting import levels

MACHINE = ('"name": "Cafe",', '"description": "A machine with a built-in brewing system.",', '"configuration": {')


def nest(depth: int, step: str = "    ", level: tuple[str, ...] = MACHINE) -> str:
    """The same lines on each level."""
    return "{\n" + "".join(f"{step * (n + 1)}{line}\n" for n in range(depth) for line in level)


@pytest.mark.parametrize("step", ["  ", "    ", "\t"])
def test_levels_that_say_the_same_are_counted_but_for_the_first(step: str) -> None:
    assert [levels(nest(depth, step)) for depth in (2, 3, 6, 9)] == [0, 2, 5, 8]


def test_lines_may_come_in_another_order_and_with_empty_ones_between() -> None:
    text = "{\n" + "".join(f"{' ' * n}{MACHINE[n % 2]}\n\n{' ' * n}{MACHINE[1 - n % 2]}\n" for n in range(8))
    assert levels(text) == 7


@pytest.mark.parametrize(
    "level",
    [
        ("{", '"value": [', "["),
        ('"children": [',),
        ("<table>", "<tr>", "<td>"),
    ],
)
def test_brackets_tags_and_one_line_on_each_level_are_no_more_than_half_as_many(level: tuple[str, ...]) -> None:
    assert levels(nest(10, level=level)) <= 5


def test_a_word_of_its_own_on_each_level_is_what_nests_by_right() -> None:
    level = '{0}"{1}": {{\n{0}"type": "object",\n{0}"properties": {{\n'
    assert levels("{\n" + "".join(level.format("  " * n, name) for n, name in enumerate("abcdefghijkl"))) <= 1


def test_who_comes_back_out_begins_anew() -> None:
    assert levels(nest(7) + "}\n") == 0
    assert levels(nest(7) + "".join(f"{' ' * n}}}\n" for n in range(28, 0, -4))) == 0


def test_code_written_twice_at_one_depth_is_no_nesting() -> None:
    block = "def one():\n    for name in names:\n        if name in known:\n            print(name.title())\n"
    assert levels("x = 1\n" + block * 6) == 0


@pytest.mark.parametrize("text", ["", "\n", "one line", "    indented\n", " \n  \n   \n    \n", "a\nb\nc\n" * 40])
def test_other_text_has_no_levels(text: str) -> None:
    assert levels(text) == 0
