"""
What a store of shared state offers, whether it is this process's memory or a Redis.

A store never raises for a fault of its own and never makes a request wait longer than its deadline: it
then answers from what this guard knows itself, and says so (`degraded`, `counts`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from guard.types import ReplicaId

#: Between two exchanges of a guard with the store. Unit: seconds.
BEAT = 1.0
#: Window over which good and bad answers are counted. Unit: seconds.
WINDOW = 60.0
#: Verdicts kept for the dashboards, in the store and in each guard.
KEPT_VERDICTS = 500
#: Means kept of each deployment.
KEPT_MEANS = 256
#: Scored answers kept of each model.
KEPT_TALLIES = 256

#: One healthy answer scored again: tokens beyond each edge of `guard.rescore.floor`, then all its tokens.
Tally = tuple[int, ...]


class Ejection(msgspec.Struct, frozen=True):
    """
    A replica taken out of choice.

    Args:
        until: When it returns. Unit: seconds since the epoch, by this guard's clock.
        reason: Why, readable.
        guard: Who decided.
    """

    until: float
    reason: str
    guard: str


class Fleet(msgspec.Struct, frozen=True):
    """
    The guards that share a store, this one included, as last seen.

    Args:
        guards: How many are alive.
        active: Client requests in flight on all of them.
        retries: Retries in flight on all of them.
    """

    guards: int = 1
    active: int = 0
    retries: int = 0


class StoreCounts:
    """Plain integers for the metrics."""

    def __init__(self) -> None:
        #: (operation, result) of calls; result is one of ok, late, failed, skipped.
        self.calls: Counter[tuple[str, str]] = Counter()
        #: (result, by) of retries asked for; granted or refused, by the fleet or by this guard alone.
        self.admissions: Counter[tuple[str, str]] = Counter()
        #: Time that requests waited for the store. Unit: seconds.
        self.waited = 0.0


class StateStore(Protocol):
    """
    Shared state, seen from one guard.

    What others did is as of the last `beat`; only `admit_retry`, `eject`, `share_means`,
    `share_tallies` and `recent_verdicts` ask the store there and then.
    """

    guard: str
    counts: StoreCounts

    @property
    def degraded(self) -> bool:
        """Whether the store is not reached, so that this guard decides alone."""
        ...

    @property
    def fleet(self) -> Fleet:
        """The fleet as last seen; this guard alone while degraded."""
        ...

    @property
    def retries(self) -> int:
        """Retries of this guard in flight."""
        ...

    @property
    def room(self) -> bool:
        """Whether the budget had room for a retry when the fleet was last seen; not asked anew."""
        ...

    async def open(self) -> None:
        """Connect and exchange once; does not wait long for a store that is down."""
        ...

    async def close(self) -> None:
        """Leave the fleet."""
        ...

    async def beat(self, active: int) -> None:
        """
        Tell the store what this guard does, and learn what the others do. Once every BEAT.

        Args:
            active: Client requests in flight on this guard.
        """
        ...

    async def admit_retry(self, active: int) -> bool:
        """
        Ask the fleet's budget for one retry: one round trip, in a burst up to two.

        Args:
            active: Client requests in flight on this guard, the one that asks included.

        Returns:
            Whether it may be made; if so, `retry_done` must follow.
        """
        ...

    async def retry_done(self) -> None:
        """A retry that was admitted is over; never waits for the store."""
        ...

    async def count_quality(self, replica: ReplicaId, deployment: str, good: int, bad: int) -> None:
        """
        Count answers of a replica; they reach the others with the next beat.

        Args:
            replica: Its name, the same on all guards.
            deployment: What it serves. Counts are kept by replica, whose name says it all.
            good: Answers without objection.
            bad: Answers found bad.
        """
        ...

    async def quality(self) -> Mapping[ReplicaId, tuple[int, int]]:
        """Good and bad answers of each replica over the latest WINDOW, of the whole fleet."""
        ...

    async def eject(self, replica: ReplicaId, until: float, reason: str) -> None:
        """Take a replica out of choice for all guards, until a Unix time; one not in the future brings it back."""
        ...

    async def ejected(self) -> Mapping[ReplicaId, Ejection]:
        """The replicas that are out now."""
        ...

    async def share_means(self, deployment: str, means: Sequence[float]) -> tuple[float, ...]:
        """
        Add acceptance means of healthy streams, and get the fleet's.

        Args:
            deployment: Whose.
            means: New ones of this guard, oldest first; each in [0, 1].

        Returns:
            The latest KEPT_MEANS of all guards, oldest first; this guard's own while degraded.
        """
        ...

    async def share_tallies(self, model: str, tallies: Sequence[Tally]) -> tuple[Tally, ...]:
        """
        Add healthy answers that were scored again, and get the fleet's.

        Args:
            model: Which said them.
            tallies: New ones of this guard, oldest first; all of one length.

        Returns:
            The latest KEPT_TALLIES of all guards, oldest first; this guard's own while degraded.
        """
        ...

    async def note_verdict(self, entry: Mapping[str, object]) -> None:
        """Keep a verdict for the dashboards; it reaches the others with the next beat."""
        ...

    async def recent_verdicts(self, limit: int) -> list[dict[str, object]]:
        """The latest verdicts of the fleet, newest first; of this guard while degraded."""
        ...
