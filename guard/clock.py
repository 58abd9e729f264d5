"""Time as an argument: production passes a MonotonicClock, tests a VirtualClock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic seconds."""

    def now(self) -> float:
        """Seconds since an arbitrary fixed point; never goes back."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    #: Seconds, from time.monotonic. Asked for every chunk: the function itself, without another around it.
    now = staticmethod(time.monotonic)


def steady_wall(clock: Clock) -> Callable[[], float]:
    """
    Unix time as the system has it now, and from then on by a clock: when the system's own is put right, nothing that
    ends at a time of its ends hours late. Unit: seconds.
    """
    begun = time.time() - clock.now()
    return lambda: begun + clock.now()


class VirtualClock:
    """A clock that only a test moves."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Seconds since the start of the test."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time forward; a negative step would break monotonicity and is refused."""
        if seconds < 0:
            raise ValueError(f"time cannot go back by {seconds} s")
        self._now += seconds
