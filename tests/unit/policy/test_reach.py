"""Rules that can never act, and rules before which another always acts."""

from __future__ import annotations

import math

import pytest

from guard.policy.reach import dead_end, implies
from guard.policy.schema import All, Any, Condition, Leaf, Not
from guard.types import SignalRef, SignalSpec, Unit, Window

SPECS = (
    SignalSpec("noise", 0, 1, "share", (Unit.CHARACTERS,), False, "How loud."),
    SignalSpec("tokens", 0, math.inf, "tokens", (), False, "How many."),
)
CATALOGUE = {spec.name: spec for spec in SPECS}
NOISE, TOKENS = SignalRef("noise"), SignalRef("tokens")
WINDOWED = SignalRef("noise", Window(64, Unit.CHARACTERS))


def above(value: float, ref: SignalRef = NOISE, after: int = 0) -> Leaf:
    return Leaf(signal=ref, zero=value, one=math.inf, step=True, after=after)


def below(value: float, ref: SignalRef = NOISE) -> Leaf:
    return Leaf(signal=ref, zero=value, one=-math.inf, step=True)


def slope(zero: float, one: float) -> Leaf:
    return Leaf(signal=NOISE, zero=zero, one=one, step=False)


@pytest.mark.parametrize(
    ("condition", "level", "says"),
    [
        (All((above(0.5), All((below(0.4), above(9, TOKENS))))), 1.0, "noise would have to be above 0.5 and below 0.4"),
        (All((slope(0.2, 0.8), slope(0.9, 0.3))), 1.0, "at least 0.8 and at most 0.3"),
        (All((above(0.5), below(0.5))), 1.0, "above 0.5 and below 0.5"),
        (All((above(0.5), Not(above(0.5)))), 1.0, "above 0.5 and at most 0.5"),
        (All((below(100, TOKENS), above(0.5, after=200))), 1.0, "tokens would have to be at least 200 and below 100"),
        (Not(above(0)), 1.0, ""),
        (Not(Any((above(0.5), below(0.6)))), 1.0, "at most 0.5"),
        (Any((All((above(0.5), below(0.4))), All((above(0.7), below(0.6))))), 1.0, "above 0.5"),
        (All((slope(0.2, 0.8), slope(0.9, 0.3))), 0.5, ""),
        (All((above(0.5), below(0.4, WINDOWED))), 1.0, ""),
        (Any((All((above(0.5), below(0.4))), above(0.9))), 1.0, ""),
        (All((above(0.5), Not(above(0.4, after=9)))), 1.0, ""),
        (slope(0.0, 1.0), 1.0, ""),
    ],
)
def test_dead_ends(condition: Condition, level: float, says: str) -> None:
    found = dead_end(condition, level, CATALOGUE)
    assert bool(found) is bool(says)
    assert says in found


def test_a_condition_with_very_many_ways_is_taken_to_be_reachable() -> None:
    many = All(tuple(Any(tuple(above(i / 100, SignalRef(f"s{j}")) for i in range(4))) for j in range(8)))
    assert dead_end(many, 1.0, CATALOGUE) == ""


@pytest.mark.parametrize(
    ("narrow", "wide", "expected"),
    [
        (above(0.5), above(0.5), True),
        (above(0.6), above(0.5), True),
        (above(0.5), above(0.6), False),
        (below(0.3), below(0.4), True),
        (above(0.6), below(0.7), False),
        (above(0.6, WINDOWED), above(0.5), False),
        (above(0.6, after=9), above(0.5), True),
        (above(0.6), above(0.5, after=9), False),
        (slope(0.3, 0.6), slope(0.2, 0.5), True),
        (slope(0.3, 0.6), slope(0.2, 0.7), False),
        (slope(0.3, 0.6), above(0.3), True),
        (slope(0.3, 0.6), above(0.4), False),
        (above(0.6), slope(0.3, 0.6), True),
        (above(0.5), slope(0.3, 0.6), False),
        (All((above(0.6), above(5, TOKENS))), above(0.5), True),
        (above(0.6), All((above(0.5), above(5, TOKENS))), False),
        (above(0.6), Any((above(0.5), above(5, TOKENS))), True),
        (Any((above(0.6), above(0.7))), above(0.5), True),
        (Any((above(0.6), above(5, TOKENS))), above(0.5), False),
        (Not(above(0.5)), Not(above(0.5)), True),
        (Not(above(0.5)), Not(above(0.6)), False),
    ],
)
def test_what_implies_what(narrow: Condition, wide: Condition, expected: bool) -> None:
    assert implies(narrow, wide) is expected
