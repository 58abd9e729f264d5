"""
The loops over the words and the classes of a page in C, where they are compiled (`_pages.c`).

Without the library `guard.detect.words`, `guard.detect.familiar` and `guard.detect.glance` do the same in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Text, last word before it -> tokens but for the one it ends in, that one, last word, whether one came twice in a row.
Scan = Callable[[str, str], tuple[list[str], str, str, bool]]
#: Table, tokens of a page; then of a FamiliarScan: places of the last two words, last number, its run, words said,
#: those of the clause, familiar ones, its size and hash -> the same after the page, and how many words were in
#: clauses, how many familiar, how many new.
Say = Callable[
    [bytearray, list[str], int, int, int, int, int, int, int, int, int],
    tuple[int, int, int, int, int, int, int, int, int, int, int, int],
]
#: Classes of characters -> joints in them, or kinds of these.
Joints = Callable[[bytes], int]
#: Classes of the end of the page before, those of a page -> see `guard.detect.glance.Counts`.
Glance = Callable[[bytes, bytes], tuple[int, int, int, int, int]]
#: Page, and what tells class << 8 | sight of a character not met before -> class and sight of each character.
See = Callable[[str, Callable[[str], int]], tuple[bytes, bytes]]
#: Tokens of pages -> how many are words, how many different ones.
Recur = Callable[[list[list[str]]], tuple[int, int]]
#: Tokens of pages, function words, pairs of those that clash -> how many are function words, how many pairs clash.
Clash = Callable[[list[list[str]], dict[str, str], frozenset[tuple[str, str]]], tuple[int, int]]


try:
    from guard.detect import _pages
except ImportError:
    _pages = None  # type: ignore[assignment]

SCAN: Final[Scan | None] = _pages.scan if _pages is not None else None
SAY: Final[Say | None] = _pages.say if _pages is not None else None
JOINTS: Final[Joints | None] = _pages.joints if _pages is not None else None
KINDS: Final[Joints | None] = _pages.kinds if _pages is not None else None
GLANCE: Final[Glance | None] = _pages.glance if _pages is not None else None
SEE: Final[See | None] = _pages.see if _pages is not None else None
RECUR: Final[Recur | None] = _pages.recur if _pages is not None else None
CLASH: Final[Clash | None] = _pages.clash if _pages is not None else None
