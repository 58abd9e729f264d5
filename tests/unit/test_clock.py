"""Clocks."""

from __future__ import annotations

import pytest

from guard.clock import MonotonicClock, VirtualClock


def test_monotonic_never_goes_back() -> None:
    clock = MonotonicClock()
    assert clock.now() <= clock.now()


def test_virtual_moves_only_when_told() -> None:
    clock = VirtualClock(5.0)
    assert clock.now() == 5.0
    clock.advance(1.5)
    assert clock.now() == 6.5
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
