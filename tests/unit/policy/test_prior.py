"""Less evidence is enough for one that is suspect: every score reaches 1 earlier, and nothing else changes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.policy.judge import Judge, leaves, score
from guard.policy.prior import sharpened
from guard.policy.schema import All, Any, Condition, Leaf, Not, Policy, Rule
from guard.shipped import find_policy, shipped_policies
from guard.types import Action, Kind, SignalRef

KINDS = ("garbled", "rare_chars")
X, Y = SignalRef("x"), SignalRef("y")

ends = st.integers(-8, 8).map(lambda n: n / 4)
graded = st.builds(
    lambda ref, zero, span: Leaf(signal=ref, zero=zero, one=zero + span, step=False),
    st.sampled_from([X, Y]),
    ends,
    ends.filter(bool),
)
steps = st.builds(
    lambda ref, at, up: Leaf(signal=ref, zero=at, one=math.inf if up else -math.inf, step=True),
    st.sampled_from([X, Y]),
    ends,
    st.booleans(),
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    graded | steps,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: All(tuple(parts)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: Any(tuple(parts)))
        | inner.map(Not)
    ),
    max_leaves=6,
)


def policy(*rules: Rule) -> Policy:
    return Policy(name="p", rules=rules)


def rule(when: Condition, kind: Kind = Kind.GARBLED, action: Action = Action.RETRY) -> Rule:
    return Rule(name="r", kind=kind, action=action, when=when)


@given(conditions, st.sampled_from([0.1, 0.25, 0.4, 0.9, 1.0]), ends, ends)
def test_a_score_reaches_1_at_the_evidence_that_is_enough(
    condition: Condition, evidence: float, x: float, y: float
) -> None:
    sooner = sharpened(policy(rule(condition)), evidence, KINDS).rules[0].when
    values = {"x": x, "y": y}
    before, after = (score(one, lambda ref: values[ref.name], 9) for one in (condition, sooner))
    assert after == pytest.approx(min(1.0, before / evidence), abs=1e-9)


@given(conditions)
def test_what_is_not_known_is_no_evidence(condition: Condition) -> None:
    sooner = sharpened(policy(rule(condition)), 0.4, KINDS).rules[0].when
    before, after = (score(one, lambda _: math.nan, 9) for one in (condition, sooner))
    assert before == after == 0.0


def test_only_rules_that_retry_for_these_kinds_are_kept() -> None:
    leaf = Leaf(signal=X, zero=0.0, one=1.0, step=False)
    made = policy(
        rule(leaf, Kind.REPETITION),
        rule(leaf, Kind.RARE_CHARS),
        rule(leaf, action=Action.CUT),
        rule(leaf, action=Action.NOTE),
    )
    assert [one.kind for one in sharpened(made, 0.5, KINDS).rules] == [Kind.RARE_CHARS]


@pytest.mark.parametrize("evidence", [0.0, -1.0, 1.5, math.nan])
def test_no_share_is_refused(evidence: float) -> None:
    with pytest.raises(ValueError, match="is no share"):
        sharpened(policy(), evidence, KINDS)


@pytest.mark.parametrize("name", shipped_policies())
def test_it_reads_no_signal_that_the_policy_does_not_read(name: str) -> None:
    judge = Judge(find_policy(name))
    sharper = judge.sharper(0.4, KINDS)
    assert sharper is judge.sharper(0.4, KINDS)
    assert {id(ref) for ref in sharper.refs} <= {id(ref) for ref in judge.refs}
    assert all(leaf.signal in judge.refs for one in sharper.policy.rules for leaf in leaves(one.when))
    assert sharper.policy.hold_back == judge.policy.hold_back
