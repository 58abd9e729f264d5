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


def test_whether_a_reference_will_be_known_after_some_steps_and_how_high_it_may_then_be() -> None:
    history = History()
    good, bad = [(3, 1)] * 4, [(0, 1)] * HISTORY_BLOCK
    assert math.isnan(history.soon(good)), "one block is not enough"
    assert math.isnan(history.soon([*good, *good[1:], (1, 1)])), "nor are 14 positions of another"
    assert history.soon([*good, *good]) == 0.75
    assert history.soon(good + bad) == 0.75, "the better of two"
    for _ in range(HISTORY_BLOCK):
        history.add(1, 0)
    assert math.isnan(history.soon(bad[1:]))
    assert history.soon(bad) == 1.0
    assert history.soon([(1, 0), *bad]) == 1.0, "what has begun a block is part of it"
    assert math.isnan(history.highest())
    for kept in (8, 12, 4):
        for number in range(HISTORY_BLOCK):
            history.add(*((1, 0) if number < kept else (0, 1)))
    assert len(history._blocks) == HISTORY_MIN + 2
    assert (history.reference, history.highest()) == (0.75, 1.0)
