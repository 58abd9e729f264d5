"""When a baseline may be judged against."""

from __future__ import annotations

from guard.detect.baseline import MIN_WEIGHT, Baseline


def test_usable_needs_weight_and_a_probability() -> None:
    assert Baseline(probability=0.5, weight=MIN_WEIGHT).usable
    assert not Baseline(probability=0.5, weight=MIN_WEIGHT - 1).usable
    assert not Baseline(probability=0.0, weight=1e6).usable
