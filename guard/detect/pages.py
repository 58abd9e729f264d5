"""
The loops over the words of a page in C, where they are compiled (`_pages.c`): half of what reading a page costs.

Without the library `guard.detect.words` and `guard.detect.familiar` do the same in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Text, last word before it -> tokens but for the one it ends in, that one, last word, whether one came twice in a row.
Scan = Callable[[str, str], tuple[list[str], str, str, bool]]
#: Table, places of words, what works out a place, words, places of the last two before them -> places of the last two,
#: how many words were new, how many phrases were said twice before.
Say = Callable[
    [bytearray, dict[str, int], Callable[[str], int], list[str], int, int],
    tuple[int, int, int, int],
]


def _found() -> tuple[Scan | None, Say | None]:
    try:
        from guard.detect import _pages  # noqa: PLC0415 - there or not
    except ImportError:
        return None, None
    return _pages.scan, _pages.say


SCAN: Final[Scan | None] = _found()[0]
SAY: Final[Say | None] = _found()[1]
