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
