"""Words that do not follow one another."""

from __future__ import annotations

import pytest

from guard.detect.grammar import CLASHES


@pytest.mark.parametrize("pair", ["the of", "a the", "their has", "the and", "of but", "with were", "an in"])
def test_impossible_pairs(pair: str) -> None:
    assert tuple(pair.split()) in CLASHES


@pytest.mark.parametrize(
    "pair",
    [
        "of the",
        "to be",
        "in which",
        "as of",
        "from under",
        "and the",
        "that is",
        "is the",
        "the i",
        "this is",
        "each of",
        "a to",
        "a and",
        "a is",
    ],
)
def test_possible_pairs(pair: str) -> None:
    assert tuple(pair.split()) not in CLASHES
