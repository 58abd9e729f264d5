"""
A deployment's healthy acceptance, learned from the streams that ended well.

Each finished stream counts once, by its own mean, so that one long answer does not outweigh fifty short
ones. The estimate is the median over the latest streams: a burst of bad ones, which slipped through or
were not judged at all, cannot move it before it is half of what is remembered.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from itertools import islice

from guard.detect.baseline import Baseline
from guard.detect.step_window import LEAST_BASELINE

#: Streams remembered. Unit: streams.
REMEMBERED = 256
#: Streams before there is a baseline. Unit: streams.
LEAST_STREAMS = 20
#: Judged draft tokens below which a stream's mean says too little. Unit: tokens.
LEAST_JUDGED = 32
#: Streams in a row that must be far below the rest before the deployment itself has changed. Unit: streams.
RUN = 12
#: Share of the median below which a stream is far below it.
FAR_BELOW = 0.5
#: Share of the remembered streams that must be weak for the draft to be weak.
NEARLY_ALL = 0.9


class BaselineLearner:
    """
    Learns the healthy acceptance probability of one engine, model, draft and depth.

    Args:
        k: Draft depth of the deployment; 0 when unknown. Unit: tokens.
        means: Means of earlier streams, oldest first, as `means` gave them.
    """

    def __init__(self, k: int = 0, means: Iterable[float] = ()) -> None:
        self._k = k
        self._means: deque[float] = deque((mean for mean in means if 0.0 <= mean <= 1.0), maxlen=REMEMBERED)
        #: The same by their size: each request asks for their median.
        self._sorted = sorted(self._means)

    @property
    def means(self) -> tuple[float, ...]:
        """Means of the remembered streams, oldest first, to be stored."""
        return tuple(self._means)

    def add(self, accepted: int, judged: int) -> float | None:
        """
        Take in a stream that ended without an objection.

        Args:
            accepted: Draft tokens kept. Unit: tokens.
            judged: Draft tokens the target model judged: those kept, and the first rejected of each step. Unit: tokens.

        Returns:
            Its mean, now remembered; None when it says too little.
        """
        if judged < LEAST_JUDGED or not 0 <= accepted <= judged:
            return None
        means, ordered, mean = self._means, self._sorted, accepted / judged
        if len(means) == REMEMBERED:
            del ordered[bisect_left(ordered, means[0])]
        means.append(mean)
        insort(ordered, mean)
        return mean

    def baseline(self) -> Baseline | None:
        """The estimate; None while there are too few streams, or when the latest no longer agree with it."""
        if len(self._means) < LEAST_STREAMS or self.changed:
            return None
        return Baseline(probability=self._median(), weight=float(LEAST_JUDGED * len(self._means)), k=self._k)

    @property
    def changed(self) -> bool:
        """
        True while all of the latest streams are far below the rest.

        A fault of the cache strikes single streams. When every stream is low, the draft or the traffic has
        changed, and a baseline from better days would speak against all of them.
        """
        if len(self._means) < LEAST_STREAMS:
            return False
        limit = FAR_BELOW * self._median()
        return all(mean < limit for mean in self._latest())

    @property
    def weak_draft(self) -> bool:
        """True when the deployment's acceptance is low from the first token throughout, so nothing can fall."""
        if len(self._means) < LEAST_STREAMS:
            return False
        if self.changed:
            return sum(mean < LEAST_BASELINE for mean in self._latest()) >= NEARLY_ALL * RUN
        return bisect_left(self._sorted, LEAST_BASELINE) >= NEARLY_ALL * len(self._sorted)

    def _latest(self) -> Iterable[float]:
        """Those of the latest run, the last first: a single good one settles most questions."""
        return islice(reversed(self._means), RUN)

    def _median(self) -> float:
        ordered, middle = self._sorted, len(self._sorted) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
