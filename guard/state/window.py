"""Counts over the latest time: what a guard knows of each replica by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from guard.types import ReplicaId

#: Pieces a window is cut into; the oldest goes as a whole.
PIECES = 12


class QualityWindow:
    """
    Good and bad answers by replica.

    Args:
        window: How long an answer counts. Unit: seconds.
    """

    def __init__(self, window: float) -> None:
        self._piece = window / PIECES
        self._pieces: deque[tuple[int, dict[ReplicaId, tuple[int, int]]]] = deque()

    def add(self, replica: ReplicaId, good: int, bad: int, now: float) -> None:
        """Count answers of a replica at `now` (unit: seconds)."""
        number = int(now // self._piece)
        if not self._pieces or self._pieces[-1][0] != number:
            self._pieces.append((number, {}))
        counts = self._pieces[-1][1]
        before = counts.get(replica, (0, 0))
        counts[replica] = (before[0] + good, before[1] + bad)

    def totals(self, now: float) -> dict[ReplicaId, tuple[int, int]]:
        """Good and bad of each replica over the window that ends at `now` (unit: seconds)."""
        oldest = int(now // self._piece) - PIECES
        while self._pieces and self._pieces[0][0] <= oldest:
            self._pieces.popleft()
        return summed(counts for _, counts in self._pieces)


def summed(parts: Iterable[Mapping[ReplicaId, tuple[int, int]]]) -> dict[ReplicaId, tuple[int, int]]:
    """The sum of several counts by replica."""
    total: dict[ReplicaId, tuple[int, int]] = {}
    for counts in parts:
        for replica, (good, bad) in counts.items():
            before = total.get(replica, (0, 0))
            total[replica] = (before[0] + good, before[1] + bad)
    return total
