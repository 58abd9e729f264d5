"""
How often the words of a text come back.

Prose repeats about a third of its words within forty: articles, prepositions, its subject. A random
draw from a vocabulary repeats almost none; a model that has lost its thread repeats most.
"""

from __future__ import annotations

import math
import re
from collections import deque

_RUN = re.compile(r"\w+")
#: Longest piece of an unfinished word carried to the next block.
_LONGEST = 48
#: Words in the window before the share says anything.
LEAST_WORDS = 24


class WordScan:
    """Finds the words completed in each block."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._open = ""

    def feed(self, block: str) -> None:
        """Scan one block."""
        runs = _RUN.findall((self._open + block).lower())
        last = block[-1]
        self._open = runs.pop()[:_LONGEST] if runs and (last.isalnum() or last == "_") else ""
        # Digests, identifiers and numbers are no words: only runs of nothing but letters count.
        self.words = [run for run in runs if run.isalpha()]


class WordWindow:
    """
    Recurrence over the words of the latest blocks.

    Args:
        blocks: Blocks in the window.
    """

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._seen: deque[list[str]] = deque()
        self._counts: dict[str, int] = {}
        self._total = 0

    def add(self, words: list[str]) -> None:
        """Take in the newest block's words."""
        counts = self._counts
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        self._total += len(words)
        self._seen.append(words)
        if len(self._seen) <= self._blocks:
            return
        old = self._seen.popleft()
        self._total -= len(old)
        for word in old:
            if counts[word] == 1:
                del counts[word]
            else:
                counts[word] -= 1

    def value(self) -> float:
        """Share of the window's words that it already had; nan while there are too few words."""
        if self._total < LEAST_WORDS:
            return math.nan
        return 1.0 - len(self._counts) / self._total
