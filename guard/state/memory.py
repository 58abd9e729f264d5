"""Shared state in this process: for a guard that is alone, and for several in one test or simulation."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from guard.clock import Clock
from guard.retry.budget import Budget
from guard.state.own import Own, newest
from guard.state.store import (
    BEAT,
    KEPT_MEANS,
    KEPT_TALLIES,
    KEPT_VERDICTS,
    WINDOW,
    Ejection,
    Fleet,
    StoreCounts,
    Tally,
)
from guard.state.window import summed
from guard.types import ReplicaId


class _Member(msgspec.Struct):
    """A guard as the fleet knows it. Unit of times: seconds."""

    until: float = 0.0
    retries: int = 0
    active: int = 0
    quality: Mapping[ReplicaId, tuple[int, int]] = {}
    quality_until: float = 0.0


class MemoryFleet:
    """
    What the guards of one process share.

    Args:
        clock: The same for all of them.
        lease: Silence after which a guard counts as gone. Unit: seconds.
        window: How long answers count. Unit: seconds.
        wall: Seconds since the epoch; ejections are told by it.
    """

    def __init__(
        self,
        clock: Clock,
        lease: float = 5 * BEAT,
        window: float = WINDOW,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self.window = window
        self.wall = wall
        self.lease = lease
        self.members: dict[str, _Member] = {}
        self.ejected: dict[ReplicaId, Ejection] = {}
        self.means: dict[str, deque[float]] = {}
        self.tallies: dict[str, deque[Tally]] = {}
        self.verdicts: deque[dict[str, object]] = deque(maxlen=KEPT_VERDICTS)

    def report(self, guard: str, retries: int, active: int) -> Fleet:
        """Keep a guard's entry, and add up those that are alive."""
        now = self.clock.now()
        member = self.members.setdefault(guard, _Member())
        member.until, member.retries, member.active = now + self.lease, retries, active
        alive = [each for each in self.members.values() if each.until > now]
        return Fleet(len(alive), sum(each.active for each in alive), sum(each.retries for each in alive))


class MemoryStore:
    """
    A StateStore that is always reached. See `store.StateStore` for its methods.

    Args:
        fleet: What it shares with others.
        budget: The rule on retries.
        guard: This guard's name.
    """

    degraded = False

    def __init__(self, fleet: MemoryFleet, budget: Budget, guard: str) -> None:
        self.guard = guard
        self.counts = StoreCounts()
        self.fleet = Fleet()
        self._fleet = fleet
        self._own = Own(guard, budget, fleet.window)
        self._active = 0

    @property
    def retries(self) -> int:
        """Retries of this guard in flight."""
        return self._own.retries.in_flight

    @property
    def room(self) -> bool:
        """As the fleet is now."""
        fleet = self._fleet.report(self.guard, self.retries, self._active)
        return fleet.retries < self._own.retries.budget.allowance(fleet.active)

    async def open(self) -> None:
        """Join the fleet."""
        await self.beat(0)

    async def close(self) -> None:
        """Leave the fleet; its counts of quality stay for their window."""
        self._fleet.members[self.guard].until = 0.0

    async def admit_retry(self, active: int) -> bool:
        """By the fleet's budget."""
        self._active = active
        own = self._own.retries
        self.fleet = self._fleet.report(self.guard, own.in_flight, active)
        granted = self.fleet.retries < own.budget.allowance(self.fleet.active)
        self.counts.admissions[("granted" if granted else "refused", "fleet")] += 1
        if granted:
            own.claim()
            self.fleet = self._fleet.report(self.guard, own.in_flight, active)
        return granted

    async def retry_done(self) -> None:
        """The retry no longer counts."""
        self._own.retries.release()
        self.fleet = self._fleet.report(self.guard, self.retries, self._active)

    async def beat(self, active: int) -> None:
        """Publish, and learn what the others published."""
        self._active = active
        now, fleet = self._fleet.clock.now(), self._fleet
        self.fleet = fleet.report(self.guard, self.retries, active)
        me = fleet.members[self.guard]
        me.quality, me.quality_until = self._own.quality.totals(now), now + fleet.window
        others = (each for each in fleet.members.values() if each is not me and each.quality_until > now)
        self._own.others_quality(summed(each.quality for each in others), now)
        fleet.verdicts.extend(self._own.unsent_verdicts)
        self._own.unsent_verdicts.clear()
        self._learn_ejections()

    def _learn_ejections(self) -> None:
        now, known = self._fleet.wall(), self._fleet.ejected
        for replica, ejection in self._own.unsent_ejections.items():
            before = known.get(replica)
            if ejection.until <= now:
                known.pop(replica, None)
            elif before is None or before.until < ejection.until:
                known[replica] = ejection
        self._own.unsent_ejections.clear()
        for replica in [replica for replica, ejection in known.items() if ejection.until <= now]:
            del known[replica]
        self._own.learn_ejections(known)

    async def count_quality(self, replica: ReplicaId, deployment: str, good: int, bad: int) -> None:
        """Told with the next beat."""
        self._own.quality.add(replica, good, bad, self._fleet.clock.now())

    async def quality(self) -> Mapping[ReplicaId, tuple[int, int]]:
        """This guard's as they are, the others' as of the last beat."""
        return self._own.all_quality(self._fleet.clock.now())

    async def eject(self, replica: ReplicaId, until: float, reason: str) -> None:
        """Told at once."""
        self._own.eject(replica, until, reason)
        self._learn_ejections()

    async def ejected(self) -> Mapping[ReplicaId, Ejection]:
        """As of the last beat, and this guard's own."""
        return self._own.ejected(self._fleet.wall())

    async def share_means(self, deployment: str, means: Sequence[float]) -> tuple[float, ...]:
        """Told at once."""
        kept = self._fleet.means.setdefault(deployment, deque(maxlen=KEPT_MEANS))
        kept.extend(means)
        return tuple(kept)

    async def share_tallies(self, model: str, tallies: Sequence[Tally]) -> tuple[Tally, ...]:
        """Told at once."""
        kept = self._fleet.tallies.setdefault(model, deque(maxlen=KEPT_TALLIES))
        kept.extend(tallies)
        return tuple(kept)

    async def note_verdict(self, entry: Mapping[str, object]) -> None:
        """Told with the next beat."""
        self._own.note(entry)

    async def recent_verdicts(self, limit: int) -> list[dict[str, object]]:
        """The fleet's, and those of this guard that wait for its beat."""
        unsent, told = list(self._own.unsent_verdicts)[::-1], list(self._fleet.verdicts)[::-1]
        return newest([*unsent, *told], limit)
