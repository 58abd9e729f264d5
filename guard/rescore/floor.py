"""
How much the log-probabilities of a healthy deployment differ when they are computed again.

On one CPU engine not at all. On GPUs sums are made in another order in another batch, so there is a floor, which is
measured: the shares of healthy tokens whose difference is beyond each of a few edges.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import msgspec

#: Differences of log-probabilities that are told apart. Unit: nats.
EDGES = (0.02, 0.05, 0.1, 0.25, 1.0)
#: Shares of healthy tokens beyond each edge that are allowed for before anything was measured.
ASSUMED = (0.2, 0.1, 0.05, 0.01, 0.001)
#: Tokens from which a measurement counts. Unit: tokens.
LEAST_TOKENS = 512
#: Of the first answers, those that differ most are left out: they may be the corrupted ones.
TRIMMED = 0.2
#: Counts are halved beyond, so that the floor follows the deployment. Unit: tokens.
MEMORY_TOKENS = 200_000


class Floor(msgspec.Struct, frozen=True):
    """
    The healthy floor of one deployment.

    Args:
        tails: Upper bounds for the share of healthy tokens beyond each of EDGES; never rising.
        tokens: Healthy tokens it was measured on; 0 for the assumed one. Unit: tokens.
    """

    tails: tuple[float, ...] = ASSUMED
    tokens: int = 0


def measured(beyond: Sequence[int], tokens: int) -> Floor:
    """
    The floor behind counts.

    Where nothing was seen beyond an edge, three tokens more than that are allowed for (the rule of three, 95 %); the
    assumed share is kept where it is lower and the counts do not speak against it.

    Args:
        beyond: Healthy tokens beyond each of EDGES.
        tokens: All healthy tokens.
    """
    if tokens < LEAST_TOKENS:
        return Floor()
    tails: list[float] = []
    for count, assumed in zip(beyond, ASSUMED, strict=True):
        upper = min((count + 2 * math.sqrt(count) + 3) / (tokens + 3), 1.0)
        tails.append(min(upper, assumed) if count <= assumed * tokens else upper)
    for place in range(len(tails) - 2, -1, -1):
        tails[place] = max(tails[place], tails[place + 1])
    return Floor(tuple(tails), tokens)


class FloorLearner:
    """
    Measures the floor on answers that nothing else speaks against.

    Args:
        answers: Answers after which it is settled; until then nothing may be proven by it.
    """

    def __init__(self, answers: int) -> None:
        if answers < 1:
            raise ValueError(f"a floor needs at least 1 answer, not {answers}")
        self._needed = answers
        self._first: list[tuple[tuple[int, ...], int]] = []
        self._beyond = [0] * len(EDGES)
        self._tokens = 0
        self.settled = False
        self.floor = Floor()

    def add(self, differences: Sequence[float]) -> None:
        """Take in one healthy answer."""
        self.count(count_beyond(differences), len(differences))

    def count(self, beyond: Sequence[int], tokens: int) -> None:
        """The same, for an answer of which these are beyond each of EDGES."""
        if not self.settled:
            self._first.append((tuple(beyond), tokens))
            total = sum(size for _, size in self._first)
            if len(self._first) < self._needed or total < LEAST_TOKENS:
                return
            self._settle()
        else:
            self._count(beyond, tokens)
        self.floor = measured(self._beyond, self._tokens)

    def _settle(self) -> None:
        by_distance = sorted(self._first, key=lambda one: sum(one[0]) / max(one[1], 1))
        for counts, tokens in by_distance[: math.ceil(len(by_distance) * (1 - TRIMMED))]:
            self._count(counts, tokens)
        self._first.clear()
        self.settled = True

    def _count(self, counts: Sequence[int], tokens: int) -> None:
        if self._tokens > MEMORY_TOKENS:
            self._beyond = [count // 2 for count in self._beyond]
            self._tokens //= 2
        self._beyond = [a + b for a, b in zip(self._beyond, counts, strict=True)]
        self._tokens += tokens


def count_beyond(differences: Sequence[float]) -> tuple[int, ...]:
    """How many differences lie beyond each of EDGES."""
    counts = [0] * len(EDGES)
    for difference in differences:
        for place in range(bisect_left(EDGES, difference)):
            counts[place] += 1
    return tuple(counts)
