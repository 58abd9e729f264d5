"""Exact sums over the latest blocks of a text."""

from __future__ import annotations

from collections import deque


class BlockSum:
    """
    Sum of one count over the latest blocks.

    Args:
        blocks: Blocks in the window; None for the whole text.
    """

    __slots__ = ("_blocks", "_counts", "old", "old_blocks", "total")

    def __init__(self, blocks: int | None) -> None:
        self._blocks = blocks
        self._counts: deque[int] = deque()
        self.total = 0
        #: Sum over what has left the window, and how many blocks that was.
        self.old = 0
        self.old_blocks = 0

    def add(self, count: int) -> None:
        """Take in the newest block's count."""
        self.total += count
        if self._blocks is None:
            self.old_blocks += 1
            return
        counts = self._counts
        counts.append(count)
        if len(counts) > self._blocks:
            gone = counts.popleft()
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
        start = len(self._counts)
        for index, count in enumerate(self._counts):
            running += count - expected - 0.05
            if running < best:
                best = running
                start = len(self._counts) - index - 1
        return start
