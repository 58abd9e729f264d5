"""Good and bad answers of each replica over a sliding window, in a fixed number of cells."""

from __future__ import annotations

from collections.abc import Mapping

from guard.types import ReplicaId

#: Cells of a window: what is forgotten at a time is a twelfth of it.
CELLS = 12
#: Replicas kept; names that discovery has long forgotten make room.
MOST_REPLICAS = 4096

Counts = Mapping[ReplicaId, tuple[int, int]]


class Tally:
    """
    Counts of one process.

    Args:
        window: How far back answers count, at most by one cell more. Unit: seconds.
    """

    def __init__(self, window: float) -> None:
        if not window > 0:
            raise ValueError(f"a window of {window} s holds nothing")
        self._span = window / CELLS
        self._cells: dict[ReplicaId, dict[int, list[int]]] = {}

    def add(self, replica: ReplicaId, good: int, bad: int, now: float) -> None:
        """
        Count answers.

        Args:
            replica: Whose.
            good: Answers that nothing was found in.
            bad: Answers that were retried or cut.
            now: Unit: seconds.
        """
        cells = self._cells.get(replica)
        if cells is None:
            if len(self._cells) >= MOST_REPLICAS:
                self._cells.pop(next(iter(self._cells)))
            cells = self._cells[replica] = {}
        number = int(now // self._span)
        cell = cells.get(number)
        if cell is None:
            self._drop_old(cells, number)
            cell = cells[number] = [0, 0]
        cell[0] += good
        cell[1] += bad

    def totals(self, now: float) -> dict[ReplicaId, tuple[int, int]]:
        """Good and bad answers in the window, of the replicas that have any."""
        number = int(now // self._span)
        out: dict[ReplicaId, tuple[int, int]] = {}
        for replica, cells in self._cells.items():
            self._drop_old(cells, number)
            if cells:
                out[replica] = (sum(c[0] for c in cells.values()), sum(c[1] for c in cells.values()))
        return out

    def forget(self, replica: ReplicaId) -> None:
        """What a replica did before no longer counts."""
        self._cells.pop(replica, None)

    @staticmethod
    def _drop_old(cells: dict[int, list[int]], number: int) -> None:
        for old in [n for n in cells if n <= number - CELLS]:
            del cells[old]
