"""Gates only spare work: they never change a score."""

from __future__ import annotations

import itertools
import math

import pytest

from guard.policy.gates import gates_of
from guard.policy.judge import leaves, score
from guard.policy.schema import All, Any, Condition, Leaf, Not
from guard.shipped import find_policy
from guard.types import SignalRef

X, Y, Z = SignalRef("x"), SignalRef("y"), SignalRef("z")


def rising(ref: SignalRef, zero: float) -> Leaf:
    return Leaf(signal=ref, zero=zero, one=zero + 1, step=False)


def falling(ref: SignalRef, zero: float) -> Leaf:
    return Leaf(signal=ref, zero=zero, one=zero - 1, step=False)


CONDITIONS: list[Condition] = [
    rising(X, 1),
    falling(X, 1),
    All((rising(X, 2), rising(Y, 1))),
    Any((rising(X, 2), falling(Y, 1))),
    All((Any((rising(X, 1), rising(Z, 1))), falling(Y, 2))),
    Not(rising(X, 1)),
    Any((Not(rising(X, 1)), rising(Y, 1))),
    All((Not(rising(X, 1)), rising(Y, 1))),
    Leaf(signal=Z, zero=1, one=math.inf, step=True),
    Leaf(signal=Z, zero=1, one=-math.inf, step=True),
]


def gates(conditions: list[Condition]) -> tuple[int, list[int]]:
    made = gates_of(conditions, {leaf.signal: leaf.signal for when in conditions for leaf in leaves(when)})
    return sum(len(part.rising) + len(part.falling) for part in made[:3]), list(made.always)


@pytest.mark.parametrize("readings", list(itertools.product([math.nan, 0.5, 1.5, 2.5], repeat=3)))
def test_a_rule_behind_a_closed_gate_scores_nothing(readings: tuple[float, float, float]) -> None:
    values = dict(zip((X, Y, Z), readings, strict=True))
    made = gates_of(CONDITIONS, {ref: ref for ref in values})
    opened = {index for part in made[:3] for index in part.open(values.__getitem__)} | set(made.always)
    for index, condition in enumerate(CONDITIONS):
        if index not in opened:
            assert score(condition, values.__getitem__, 10) == 0.0


def test_the_first_condition_guards_the_others_and_rules_share_it() -> None:
    shared = [All((rising(X, 1), rising(Y, 1))), All((rising(X, 2), rising(Z, 1))), rising(X, 3)]
    assert gates(shared) == (1, [])
    assert gates([All((Any((rising(X, 1), rising(Y, 1))), rising(Z, 1)))]) == (1, [])


def test_gates_are_sorted_by_how_often_their_readings_change() -> None:
    refs = [SignalRef("acceptance_fall"), SignalRef("repetition_count"), SignalRef("garble")]
    made = gates_of([rising(ref, 1) for ref in refs], {ref: ref for ref in refs})
    assert [[gate.ref for gate in part.rising] for part in made[:3]] == [[ref] for ref in refs]


def test_a_negation_has_no_gate() -> None:
    assert gates([Not(rising(X, 1))]) == (0, [0])
    assert gates([All((Not(rising(X, 1)), rising(Y, 1)))]) == (1, [])


@pytest.mark.parametrize("name", ["default", "strict", "coding-agents", "text-only", "demo", "observe"])
def test_acceptance_that_is_merely_good_wakes_no_shipped_rule(name: str) -> None:
    """A rule that it guards is asked about the text of most healthy streams, again and again."""
    conditions = [rule.when for rule in find_policy(name).rules]
    shared = {leaf.signal: leaf.signal for condition in conditions for leaf in leaves(condition)}
    steps = gates_of(conditions, shared).steps
    good = [gate for gate in steps.rising if gate.ref.name == "acceptance_probability"]
    assert all(gate.bound >= 0.8 for gate in good)
    assert all(gate.bound <= 0.3 for gate in steps.falling)
