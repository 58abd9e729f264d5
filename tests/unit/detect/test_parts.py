"""Readings come with where they began and with words for them."""

from __future__ import annotations

import math

from guard.detect.catalogue import CATALOGUE
from guard.detect.parts import Parts


def test_where_it_began_is_told_at_once_or_when_asked() -> None:
    assert Parts(lambda: 1.0, 4).pages_back() == 4
    assert Parts(lambda: 1.0, lambda: 7).pages_back() == 7


def test_the_reason_is_a_clause_or_nothing() -> None:
    assert Parts(lambda: 0.5, 1).why("stutter", 0.5) == "50% of the words are the one before again"
    assert Parts(lambda: 0.5, 1).why("tokens", 3.0) == ""


def test_names_are_counted_and_six_of_them_told() -> None:
    part = Parts(lambda: 8.0, 1, lambda: [f"SCRIPT{number}" for number in range(8)])
    assert part.why("odd_kinds", 8.0).startswith("8 unrelated kinds of signs (script0, script1,")
    assert "script6" not in part.why("stray_scripts", 8.0)
    for name in CATALOGUE:
        assert isinstance(part.why(name, math.nan), str)
