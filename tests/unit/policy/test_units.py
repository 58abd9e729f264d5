"""Durations."""

from __future__ import annotations

import pytest

from guard.policy.units import parse_tokens, parse_window
from guard.types import Unit, Window


def test_numbers_with_units() -> None:
    assert parse_window("48 tokens") == Window(48, Unit.TOKENS)
    assert parse_window(" 1  step ") == Window(1, Unit.STEPS)
    assert parse_tokens("0 tokens") == 0


@pytest.mark.parametrize("text", ["48", "48 words", "tokens", "-1 tokens", "1.5 tokens", "48tokens"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_window(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("160 chars", "160 characters"),
        ("160characters", "160 characters"),
        ("1.5 Characters", "1 characters"),
        ("16 toks", "16 tokens"),
        ("8 step's", "8 steps"),
        ("48", "48 tokens"),
        ("16 lines", "16 tokens"),
    ],
)
def test_the_unit_that_was_meant_is_named(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        parse_window(text)
