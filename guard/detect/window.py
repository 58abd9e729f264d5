"""Exact sums over the latest blocks of a text."""

from __future__ import annotations

from array import array
from collections.abc import Iterable


class BlockSum:
    """
    Sum of one count over the latest blocks.

    Args:
        blocks: Blocks in the window; None for the whole text.
    """

    __slots__ = ("_blocks", "_counts", "_place", "old", "old_blocks", "total")

    def __init__(self, blocks: int | None) -> None:
        self._blocks = blocks
        self._counts = array("H")
        self._place = 0
        self.total = 0
        #: Sum over what has left the window, and how many blocks that was.
        self.old = 0
        self.old_blocks = 0

    def add(self, count: int) -> None:
        """Take in the newest block's count, at most 65535."""
        self.total += count
        if self._blocks is None:
            self.old_blocks += 1
            return
        counts = self._counts
        if len(counts) < self._blocks:
            counts.append(count)
            return
        place = self._place
        gone = counts[place]
        counts[place] = count
        self._place = place + 1 if place + 1 < self._blocks else 0
        self.total -= gone
        self.old += gone
        self.old_blocks += 1

    @property
    def blocks(self) -> int:
        """Blocks the sum is to be spread over: a window not yet full counts as full."""
        return max(self.old_blocks, 1) if self._blocks is None else self._blocks

    def onset(self) -> int:
        """Blocks back from the end at which counts began to stand above their mean before the window."""
        expected = 2.0 * self.old / self.old_blocks if self._blocks and self.old_blocks else 0.0
        running = best = 0.0
        counts = [*self._counts[self._place :], *self._counts[: self._place]]
        start = len(counts)
        for index, count in enumerate(counts):
            running += count - expected - 0.05
            if running < best:
                best = running
                start = len(counts) - index - 1
        return start


class CountWindow:
    """How often each thing stands in a window whose owner says what comes and what goes."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.total = 0

    def put(self, things: Iterable[str]) -> None:
        """Count things that came in."""
        counts = self.counts
        for thing in things:
            counts[thing] = counts.get(thing, 0) + 1
            self.total += 1

    def take(self, things: Iterable[str]) -> None:
        """Stop counting things that went out; they must have come in before."""
        counts = self.counts
        for thing in things:
            self.total -= 1
            if counts[thing] == 1:
                del counts[thing]
            else:
                counts[thing] -= 1
