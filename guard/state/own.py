"""What one guard holds itself: the truth of its own part, and its memory of the others'."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import msgspec

from guard.retry.budget import Budget, LocalBudget
from guard.state.lists import SharedLists
from guard.state.store import KEPT_MEANS, KEPT_TALLIES, KEPT_VERDICTS, WINDOW, Ejection, Tally
from guard.state.window import QualityWindow, summed
from guard.types import ReplicaId


class Others(msgspec.Struct, frozen=True):
    """
    The other guards of the fleet, as this one saw them.

    Args:
        guards: Guards alive, this one included.
        active: Client requests in flight on the others.
        retries: Retries in flight on the others.
        held: Retries in flight here at that time.
        until: After which it says nothing any more. Unit: seconds.
    """

    guards: int = 1
    active: int = 0
    retries: int = 0
    held: int = 0
    until: float = 0.0


class Own:
    """
    One guard's part. Times are seconds of the guard's own monotonic clock, those of ejections seconds since the epoch.

    Everything that a store is told is told as a whole ("I have 3 retries in flight"), never as a
    change, so that a lost or repeated call, or a store that lost its data, mends itself with the next one.

    Args:
        guard: This guard's name.
        budget: The rule on retries.
        window: How long answers count. Unit: seconds.
    """

    def __init__(self, guard: str, budget: Budget, window: float = WINDOW) -> None:
        self.guard = guard
        self.retries = LocalBudget(budget)
        self.others = Others()
        self.quality = QualityWindow(window)
        self.window = window
        self._others: Mapping[ReplicaId, tuple[int, int]] = {}
        self._others_until = 0.0
        self._ejected: dict[ReplicaId, Ejection] = {}
        #: Ejections and returns that the store has not been told of.
        self.unsent_ejections: dict[ReplicaId, Ejection] = {}
        self._verdicts: deque[dict[str, object]] = deque(maxlen=KEPT_VERDICTS)
        self.unsent_verdicts: deque[dict[str, object]] = deque(maxlen=KEPT_VERDICTS)
        self._noted = 0
        self.means: SharedLists[float] = SharedLists(KEPT_MEANS)
        self.tallies: SharedLists[Tally] = SharedLists(KEPT_TALLIES)

    # -- retries ------------------------------------------------------------------------------------

    def limit(self, active: int, now: float) -> int:
        """Retries that `active` requests here may have in flight while this guard decides alone."""
        seen, budget = self.others, self.retries.budget
        if now < seen.until and seen.guards > 1:
            return budget.beside(active, seen.guards, seen.held, seen.active, seen.retries)
        return budget.alone(active, seen.guards)

    # -- quality ------------------------------------------------------------------------------------

    def others_quality(self, counts: Mapping[ReplicaId, tuple[int, int]], now: float) -> None:
        """Take over what the other guards count; forgotten after a window without news."""
        self._others, self._others_until = counts, now + self.window

    def all_quality(self, now: float) -> dict[ReplicaId, tuple[int, int]]:
        """This guard's counts and the others'."""
        return summed((self.quality.totals(now), self._others if now < self._others_until else {}))

    # -- ejections ----------------------------------------------------------------------------------

    def eject(self, replica: ReplicaId, until: float, reason: str) -> None:
        """Note an ejection, or with a time not in the future a return."""
        self._ejected[replica] = self.unsent_ejections[replica] = Ejection(until, reason, self.guard)

    def learn_ejections(self, fleet: Mapping[ReplicaId, Ejection]) -> None:
        """Take over the fleet's ejections; what the store has not been told of yet stays."""
        self._ejected = {**fleet, **self.unsent_ejections}

    def ejections_lost(self) -> None:
        """The store has lost its data: it is told all again."""
        self.unsent_ejections = {**self._ejected, **self.unsent_ejections}

    def ejected(self, now: float) -> dict[ReplicaId, Ejection]:
        """The replicas out of choice now."""
        return {replica: ejection for replica, ejection in self._ejected.items() if ejection.until > now}

    # -- verdicts -----------------------------------------------------------------------------------

    def note(self, entry: Mapping[str, object]) -> None:
        """Keep a verdict under a number of its own, by which a repeated one is known."""
        self._noted += 1
        numbered = {**entry, "guard": self.guard, "number": self._noted}
        self._verdicts.append(numbered)
        self.unsent_verdicts.append(numbered)

    def verdicts(self, limit: int) -> list[dict[str, object]]:
        """This guard's latest, newest first."""
        return list(self._verdicts)[::-1][:limit]


def newest(entries: Iterable[dict[str, object]], limit: int) -> list[dict[str, object]]:
    """The first `limit` entries, without those that came twice."""
    seen: set[tuple[object, object]] = set()
    out: list[dict[str, object]] = []
    for entry in entries:
        key = (entry.get("guard"), entry.get("number"))
        if key not in seen and len(out) < limit:
            seen.add(key)
            out.append(entry)
    return out
