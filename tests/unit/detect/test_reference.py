"""The stream's own earlier acceptance as a reference."""

from __future__ import annotations

import math

from guard.detect.reference import HISTORY_BLOCK, HISTORY_MIN, History
from guard.detect.step_window import LEAST_HISTORY


def test_history_is_bounded_and_keeps_its_median() -> None:
    history = History()
    for index in range(20_000):
        history.add(index % 2, 1 - index % 2)
    assert len(history._blocks) <= 64
    assert history.reference == 0.5
    assert history.reference > LEAST_HISTORY


def test_whether_a_reference_may_soon_be_known_and_how_high_it_may_then_be() -> None:
    history = History()
    assert not history.near(16)
    for _ in range(HISTORY_BLOCK):
        history.add(1, 0)
    assert history.near(16)
    assert math.isnan(history.highest())
    for kept in (8, 12, 4):
        for number in range(HISTORY_BLOCK):
            history.add(*((1, 0) if number < kept else (0, 1)))
    assert len(history._blocks) == HISTORY_MIN + 2
    assert (history.reference, history.highest()) == (0.75, 1.0)
