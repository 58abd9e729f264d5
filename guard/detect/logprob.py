"""
How likely the model held the tokens that it chose.

Counted in whole 1024ths of a nat, so that sums are exact however long a stream is and however it is cut. A token of
which nothing was told takes no part: windows are of the tokens of which something was.
"""

from __future__ import annotations

import math
from array import array
from bisect import insort
from collections.abc import Callable, Iterable
from typing import Final

from guard.types import SignalRef, Window

#: A token counts as at most so unlikely: servers write -9999 for what has no chance at all. Unit: nats.
LEAST: Final = 20.0
_SCALE: Final = 1024
_MOST: Final = int(LEAST) * _SCALE
#: Tokens in one block of the stream's own history.
BLOCK: Final = 16
#: Blocks before that history counts as a reference.
_LEAST_BLOCKS: Final = 3
#: Blocks kept; when full, every second of the sorted blocks goes, which keeps the median.
_MOST_BLOCKS: Final = 64


class Earlier:
    """What has left a window: the median of its blocks."""

    __slots__ = ("_blocks", "_count", "_sum")

    def __init__(self) -> None:
        self._sum = 0
        self._count = 0
        self._blocks: list[int] = []

    def add(self, cost: int) -> None:
        """Take in one token. Unit: 1024ths of a nat."""
        self._sum += cost
        self._count += 1
        if self._count < BLOCK:
            return
        insort(self._blocks, self._sum)
        self._sum = self._count = 0
        if len(self._blocks) > _MOST_BLOCKS:
            self._blocks = self._blocks[::2]

    def mean(self) -> float:
        """Mean log-probability in the middle block; nan while there are too few. Unit: nats."""
        blocks = self._blocks
        if len(blocks) < _LEAST_BLOCKS:
            return math.nan
        return -blocks[(len(blocks) - 1) // 2] / (BLOCK * _SCALE)


class LogprobWindow:
    """
    The latest tokens of a stream, or all of them.

    Args:
        window: Size in tokens; None for the whole stream.
        remember: Keep what has left the window, for `fall`.
    """

    __slots__ = ("_at", "_count", "_earlier", "_ring", "_size", "_sum")

    def __init__(self, window: Window | None, *, remember: bool = False) -> None:
        self._size = 0 if window is None else window.size
        self._ring = array("H")
        self._at = 0
        self._sum = 0
        self._count = 0
        self._earlier = Earlier() if remember else None

    def add(self, cost: int) -> None:
        """Take in the newest token. Unit: 1024ths of a nat."""
        self._sum += cost
        self._count += 1
        if not self._size:
            return
        ring = self._ring
        if len(ring) < self._size:
            ring.append(cost)
            return
        at = self._at
        old = ring[at]
        ring[at] = cost
        self._at = at + 1 if at + 1 < self._size else 0
        self._sum -= old
        self._count -= 1
        if self._earlier is not None:
            self._earlier.add(old)

    def mean(self) -> float:
        """Mean log-probability; nan until the window is full. Unit: nats."""
        if not self._count or self._count < self._size:
            return math.nan
        return -self._sum / (self._count * _SCALE)

    def fall(self) -> float:
        """How far that is below what has left the window, at least 0; nan while either is unknown. Unit: nats."""
        if self._earlier is None:
            return math.nan
        # A comparison with nan is never true.
        fallen = self._earlier.mean() - self.mean()
        return 0.0 if fallen < 0.0 else fallen

    def why(self, name: str) -> str:
        """What one of the signals shows here, in a clause."""
        likely = f"mean log-probability of the latest {self._count} tokens is {self.mean():.2f}"
        if name == "logprob_fall" and self._earlier is not None:
            return f"{likely}, {self._earlier.mean():.2f} before"
        return likely


class Logprobs:
    """
    The windows of one choice.

    Args:
        refs: Signals of log-probabilities that will be read.
    """

    def __init__(self, refs: Iterable[SignalRef]) -> None:
        wanted = tuple(refs)
        falls = {ref.window for ref in wanted if ref.name == "logprob_fall"}
        self._windows = {ref.window: LogprobWindow(ref.window, remember=ref.window in falls) for ref in wanted}
        self._all = tuple(self._windows.values())

    def add(self, values: Iterable[float]) -> None:
        """Take in tokens in their order. Never raises: what is no number is left out. Unit: nats."""
        for value in values:
            if math.isnan(value):
                continue
            cost = 0 if value >= 0.0 else _MOST if value <= -LEAST else round(-value * _SCALE)
            for window in self._all:
                window.add(cost)

    def reader(self, ref: SignalRef) -> Callable[[], float]:
        """What reads one of the signals."""
        window = self._windows[ref.window]
        return window.fall if ref.name == "logprob_fall" else window.mean

    def why(self, ref: SignalRef) -> str:
        """What a signal shows, in a clause."""
        return self._windows[ref.window].why(ref.name)
