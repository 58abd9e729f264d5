"""A replica stands out only on evidence: the test against exact sums, and against a healthy fleet."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.fleet.outlier import outliers, tail_probability
from guard.fleet.settings import QualitySettings
from guard.types import ReplicaId

SETTINGS = QualitySettings()


def counts(**both: tuple[int, int]) -> dict[ReplicaId, tuple[int, int]]:
    return {ReplicaId(name): value for name, value in both.items()}


@given(st.integers(1, 30), st.integers(1, 60), st.data())
def test_the_tail_is_the_exact_sum(total: int, others: int, data: st.DataObject) -> None:
    bad, others_bad = data.draw(st.integers(0, total)), data.draw(st.integers(0, others))
    all_bad = bad + others_bad
    ways = sum(math.comb(total, k) * math.comb(others, all_bad - k) for k in range(bad, min(total, all_bad) + 1))
    exact = float(Fraction(ways, math.comb(total + others, all_bad)))
    assert tail_probability(bad, total, others_bad, others) == pytest.approx(exact, rel=1e-9, abs=1e-12)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="no counts"):
        tail_probability(3, 2, 0, 10)


def test_one_bad_replica_is_found_and_the_reason_gives_the_figures() -> None:
    (found,) = outliers(counts(a=(14, 6), b=(70, 0), c=(71, 0)), SETTINGS)
    assert found.replica == "a"
    assert "6 of 20 answers bad, 0 of 141 elsewhere" in found.reason


def test_two_bad_replicas_do_not_hide_each_other() -> None:
    fleet = counts(a=(20, 20), b=(28, 12), **{f"r{i}": (40, 0) for i in range(6)})
    assert [o.replica for o in outliers(fleet, SETTINGS)] == ["a", "b"]


@pytest.mark.parametrize(
    "fleet",
    [
        counts(a=(10, 9), b=(40, 0)),  # too few answers
        counts(a=(14, 6), b=(15, 0)),  # too few elsewhere
        counts(a=(960, 40), b=(2000, 0)),  # significant, but below the least rate
        counts(a=(700, 300), b=(1700, 300)),  # twice the others' rate is no outlier
        counts(a=(14, 6), b=(15, 5), c=(13, 7)),  # bad throughout
        counts(a=(0, 20)),  # nobody to compare with
        counts(a=(0, 0), b=(0, 0)),
    ],
)
def test_no_replica_is_named_without_evidence(fleet: dict[ReplicaId, tuple[int, int]]) -> None:
    assert outliers(fleet, SETTINGS) == []


def test_a_returning_replica_needs_less_evidence() -> None:
    fleet = counts(a=(3, 3), b=(200, 0))
    assert outliers(fleet, SETTINGS) == []
    assert [o.replica for o in outliers(fleet, SETTINGS, returning={ReplicaId("a")})] == ["a"]


def test_a_healthy_fleet_loses_no_more_than_the_chance_allowed() -> None:
    """Eight replicas at the same 8 % of bad answers: 2,000 looks, of which at most a few may be wrong."""
    dice = random.Random(5)
    loose = QualitySettings(false_alarm=0.05, ratio=1.0)
    alarms = 0
    for _ in range(2000):
        bad = [sum(dice.random() < 0.08 for _ in range(40)) for _ in range(8)]
        alarms += bool(outliers({ReplicaId(str(i)): (40 - b, b) for i, b in enumerate(bad)}, loose))
    assert alarms / 2000 <= 0.05
