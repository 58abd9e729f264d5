"""
Symbol salad: marks thrown together without a pattern.

Code, formulae and drawings are dense with marks, but with the same pairs of them again and again. Marks
drawn at random meet in ever new pairs.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import pairwise

#: Marks per character from which pairs are counted at all.
LEAST_MARKS = 0.06
_RUN = re.compile(r"[!-/:-@\[-^`{-~]{2,}")


class SymbolWindow:
    """
    Different pairs of unlike ASCII marks, side by side, in the latest pages.

    Counted only when it is read and there are marks enough: there are never more pairs than marks.

    Args:
        pages: Pages in the window.
        size: Characters in a page.
    """

    def __init__(self, pages: int, size: int) -> None:
        self._characters = pages * size
        self._pages: deque[tuple[str, int]] = deque(maxlen=pages)
        self._marks = 0

    def add(self, page: str, marks: int) -> None:
        """
        Take in the newest page.

        Args:
            page: The text.
            marks: How many of its characters are neither letters, digits nor blank.
        """
        pages = self._pages
        if len(pages) == pages.maxlen:
            self._marks -= pages[0][1]
        pages.append((page, marks))
        self._marks += marks

    def value(self) -> float:
        """Different pairs per character; a window that is not full counts as padded with blanks."""
        if self._marks < LEAST_MARKS * self._characters:
            return 0.0
        text = "".join(page for page, _ in self._pages)
        pairs = {pair for run in _RUN.findall(text) for pair in pairwise(run) if pair[0] != pair[1]}
        return min(1.0, len(pairs) / self._characters)
