"""What the guards of a fleet tell each other about replicas and retries; alone, a guard remembers it for itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from guard.fleet.tally import Tally
from guard.types import ReplicaId


class Ejected(Protocol):
    """An ejection as the store has it: `until` is Unix time in seconds."""

    @property
    def until(self) -> float:
        """When it ends. Unit: seconds since the epoch."""
        ...

    @property
    def reason(self) -> str:
        """The evidence."""
        ...


class Shared(Protocol):
    """The part of a state store that the replica pool needs. No call raises or takes long."""

    @property
    def room(self) -> bool:
        """Whether the budget had room for a retry when the fleet was last seen; not asked anew."""
        ...

    async def admit_retry(self, active: int) -> bool:
        """
        Ask the fleet's budget for one retry.

        Args:
            active: Exchanges now open on this guard.

        Returns:
            Whether it may be made; then `retry_done` is to be called once it is over.
        """
        ...

    async def retry_done(self) -> None:
        """An admitted retry is over."""
        ...

    async def count_quality(self, replica: ReplicaId, deployment: str, good: int, bad: int) -> None:
        """Add answers of a replica to the fleet's window."""
        ...

    async def quality(self) -> Mapping[ReplicaId, tuple[int, int]]:
        """Good and bad answers of each replica in the window, over all guards."""
        ...

    async def eject(self, replica: ReplicaId, until: float, reason: str) -> None:
        """Tell the others that a replica is left out."""
        ...

    async def ejected(self) -> Mapping[ReplicaId, Ejected]:
        """All ejections known to the fleet."""
        ...


class LocalEjection(msgspec.Struct, frozen=True):
    """See Ejected."""

    until: float
    reason: str


class LocalShared:
    """
    One guard on its own: retries are bounded by the policy alone.

    Args:
        window: How far back answers count. Unit: seconds.
        wall: Unix time. Unit: seconds.
    """

    def __init__(self, window: float, wall: Callable[[], float] = time.time) -> None:
        self._tally = Tally(window)
        self._wall = wall
        self._ejections: dict[ReplicaId, LocalEjection] = {}
        self.retries = 0
        self.room = True

    async def admit_retry(self, active: int) -> bool:
        """See Shared: always."""
        self.retries += 1
        return True

    async def retry_done(self) -> None:
        """See Shared."""
        self.retries -= 1

    async def count_quality(self, replica: ReplicaId, deployment: str, good: int, bad: int) -> None:
        """See Shared."""
        self._tally.add(replica, good, bad, self._wall())

    async def quality(self) -> Mapping[ReplicaId, tuple[int, int]]:
        """See Shared."""
        return self._tally.totals(self._wall())

    async def eject(self, replica: ReplicaId, until: float, reason: str) -> None:
        """See Shared."""
        self._ejections[replica] = LocalEjection(until, reason)

    async def ejected(self) -> Mapping[ReplicaId, LocalEjection]:
        """See Shared."""
        now = self._wall()
        for replica in [name for name, ejection in self._ejections.items() if ejection.until <= now]:
            del self._ejections[replica]
        return self._ejections
