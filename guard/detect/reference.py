"""What a fall of acceptance is measured against where no baseline is known: the same stream's earlier part."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from typing import Final

#: Verify positions in one block of the stream's own history.
HISTORY_BLOCK: Final = 16
#: Blocks before the stream's own history counts as a reference.
HISTORY_MIN: Final = 2
#: Blocks kept; when full, every second of the sorted blocks goes, which keeps the median.
HISTORY_MAX: Final = 64
#: Blocks after which the stream's own history may speak against a baseline: so long a text that no text
#: rule objected to was not bad, however low its acceptance; its draft is weak.
HISTORY_TRUST: Final = 6
#: Blocks held back in doubt; after that many the fall is what the draft is like from now on.
DOUBT_MAX: Final = 10


class History:
    """The stream's own earlier acceptance, as the median over blocks: a bad stretch cannot drag it far."""

    def __init__(self) -> None:
        self._accepted = 0
        self._judged = 0
        self._blocks: list[float] = []
        self._doubtful: list[float] = []
        self.reference = math.nan
        self.trusted = False

    def add(self, accepted: int, rejected: int, *, doubt: bool = False) -> None:
        """
        Take in one step that has left the window.

        Args:
            accepted: Draft tokens it kept.
            rejected: 1 when it ended in a rejection.
            doubt: A fall is under way: the block counts only once it is over, or has lasted long.
        """
        self._accepted += accepted
        self._judged += accepted + rejected
        if self._judged < HISTORY_BLOCK:
            return
        self._doubtful.append(self._accepted / self._judged)
        self._accepted = self._judged = 0
        if not doubt or len(self._doubtful) > DOUBT_MAX or len(self._blocks) < HISTORY_MIN:
            for block in self._doubtful:
                self._take(block)
            self._doubtful.clear()

    def soon(self, steps: Iterable[tuple[int, int]]) -> float:
        """
        The most that a reference not known yet may be once some steps are taken in; nan where it is not known then.

        Args:
            steps: Accepted and rejected tokens of each.
        """
        accepted, judged, blocks = self._accepted, self._judged, len(self._blocks)
        most = max(self._blocks, default=0.0)
        for kept, rejected in steps:
            accepted += kept
            judged += kept + rejected
            if judged >= HISTORY_BLOCK:
                most, blocks = max(most, accepted / judged), blocks + 1
                accepted = judged = 0
        return most if blocks >= HISTORY_MIN else math.nan

    def highest(self) -> float:
        """The most the reference may be within so few tokens that they make no more than two blocks; nan as of now."""
        blocks = self._blocks
        known = len(blocks) >= HISTORY_MIN
        return blocks[min(len(blocks) // 2 + 1, len(blocks) - 1)] if known else math.nan

    def _take(self, block: float) -> None:
        insort(self._blocks, block)
        if len(self._blocks) > HISTORY_MAX:
            self._blocks = self._blocks[::2]
        self.trusted = len(self._blocks) >= HISTORY_TRUST
        if len(self._blocks) >= HISTORY_MIN:
            # The upper median: a bad stretch that has begun to leave the window does not drag it down at once.
            self.reference = self._blocks[len(self._blocks) // 2]
