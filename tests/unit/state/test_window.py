"""Good and bad answers over the latest time."""

from __future__ import annotations

from guard.state.window import PIECES, QualityWindow, summed
from guard.types import ReplicaId

A, B = ReplicaId("a"), ReplicaId("b")


def test_answers_count_for_a_window_and_no_longer() -> None:
    window = QualityWindow(60.0)
    window.add(A, 1, 0, now=0.0)
    window.add(A, 2, 1, now=4.9)
    window.add(B, 0, 1, now=30.0)
    assert window.totals(30.0) == {A: (3, 1), B: (0, 1)}
    assert window.totals(59.9) == {A: (3, 1), B: (0, 1)}
    assert window.totals(60.0) == {B: (0, 1)}
    assert window.totals(500.0) == {}


def test_its_memory_is_bounded() -> None:
    window = QualityWindow(60.0)
    for second in range(10_000):
        window.add(A, 1, 0, now=float(second))
        window.totals(float(second))
    assert len(window._pieces) <= PIECES
    assert 55 <= window.totals(9_999.0)[A][0] <= 60


def test_counts_are_summed_by_replica() -> None:
    assert summed([{A: (1, 2)}, {}, {A: (3, 4), B: (5, 6)}]) == {A: (4, 6), B: (5, 6)}
