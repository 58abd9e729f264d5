"""Clocks."""

from __future__ import annotations

import pytest

from guard.clock import MonotonicClock, VirtualClock, steady_wall


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


def test_a_steady_wall_does_not_follow_a_step_of_the_systems_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, system = VirtualClock(5.0), 1_000_000.0
    monkeypatch.setattr("guard.clock.time.time", lambda: system)
    wall = steady_wall(clock)
    assert wall() == 1_000_000.0
    system -= 86_400.0
    clock.advance(30.0)
    assert wall() == 1_000_030.0
