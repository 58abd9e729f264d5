"""Counts slide out of the window, and their memory is bounded."""

from __future__ import annotations

import pytest

from guard.fleet.tally import CELLS, MOST_REPLICAS, Tally
from guard.types import ReplicaId

A, B = ReplicaId("a"), ReplicaId("b")


def test_what_is_older_than_the_window_is_forgotten() -> None:
    tally = Tally(60.0)
    tally.add(A, 3, 1, now=0.0)
    tally.add(A, 1, 0, now=30.0)
    assert tally.totals(59.0) == {A: (4, 1)}
    assert tally.totals(60.0) == {A: (1, 0)}
    assert tally.totals(90.0) == {}


def test_a_replica_can_be_forgotten_at_once() -> None:
    tally = Tally(60.0)
    tally.add(A, 1, 1, now=0.0)
    tally.add(B, 2, 0, now=0.0)
    tally.forget(A)
    tally.forget(A)
    assert tally.totals(1.0) == {B: (2, 0)}


def test_memory_is_bounded_in_time_and_in_replicas() -> None:
    tally = Tally(12.0)
    for second in range(1000):
        tally.add(A, 1, 0, now=float(second))
    assert len(tally._cells[A]) <= CELLS
    for number in range(MOST_REPLICAS + 5):
        tally.add(ReplicaId(str(number)), 1, 0, now=1000.0)
    assert len(tally._cells) == MOST_REPLICAS


def test_a_window_has_a_length() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Tally(0.0)
