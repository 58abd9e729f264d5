"""
The same words in the same order, over and over, whatever stands between them.

A loop in which only marks, blanks, line ends or case differ from round to round has no period in characters: an
indent that grows, a full stop that becomes a comma. Its words have one. They are followed only while nothing new
is said, which in running text is never for long, and compared only when they are read.
"""

from __future__ import annotations

from array import array
from typing import Final
from zlib import crc32

#: Words remembered, so that the longest period found, said three times, is a third of them.
_KEPT: Final = 160
#: Words beyond that before the oldest are dropped.
_SLACK: Final = 96
#: Words that must recur before a period is considered.
_ANCHOR: Final = 4
#: Times that a passage must stand there, the first included.
_LEAST_TIMES: Final = 3
#: Places of the anchor that are tried: it may stand twice in one passage.
_MOST_TRIES: Final = 8
#: Pages whose words are counted, to tell where a cycle began.
_PAGES: Final = 48
#: A word is remembered as a number: 15 bits of its hash, and one for those with digits in them.
_HASH: Final = 0x7FFF
_FIGURE: Final = 0x8000
#: Bytes of such a number.
_SIZE: Final = 2
#: No words, never written to: most streams have none most of the time.
_NONE: Final = array("H")


class WordCycle:
    """
    The latest words, from the page on in which something new was last said.

    Words here are those of WordScan that begin with a letter, a digit or a low line: names in code begin with one too.
    """

    __slots__ = ("_before", "_counts", "_words", "latest")

    def __init__(self) -> None:
        #: Tokens of the latest page.
        self.latest: list[str] = []
        self._before: list[str] = []
        self._words = _NONE
        #: Words of each of the latest pages.
        self._counts = _NONE

    def feed(self, tokens: list[str], fresh: bool) -> None:
        """
        Take in one page.

        Args:
            tokens: Its tokens, in lower case.
            fresh: Whether one of its words was new.
        """
        words = self._words
        self.latest = tokens
        if fresh:
            self._before = tokens
            if words:
                self._words = self._counts = _NONE
            return
        if not words:
            words, self._counts = array("H"), array("H")
            self._words = words
            self._take(self._before)
            self._before = []
        self._take(tokens)
        if len(words) > _KEPT + _SLACK:
            del words[:-_KEPT]
        if len(self._counts) > _PAGES:
            del self._counts[: -_PAGES // 2]

    def _take(self, tokens: list[str]) -> None:
        words = self._words
        before = len(words)
        for token in tokens:
            if token[0].isalnum() or token[0] == "_":
                words.append(crc32(token.encode("utf-8", "replace")) & _HASH | (0 if token.isalpha() else _FIGURE))
        self._counts.append(len(words) - before)

    def value(self) -> float:
        """Words that the latest passage and its repeats cover; 0 while it is not there three times."""
        return float(self._find()[0]) if self._words else 0.0

    def rounds(self) -> float:
        """How often the passage has been said, as far as its words are remembered; 0 while there is no cycle."""
        covered, period = self._find()
        return covered / period if period else 0.0

    def pages(self) -> int:
        """Pages back from the end at which the second round begins, rounded up."""
        covered, period = self._find()
        left, back = covered - period, 0
        for count in reversed(self._counts):
            if left <= 0:
                break
            left -= count
            back += 1
        return back

    def _find(self) -> tuple[int, int]:
        """Words that the cycle with the widest reach covers, and its period; 0 and 0 while there is none."""
        words = self._words[-_KEPT:]
        size = len(words)
        best = (0, 0)
        if size < _LEAST_TIMES * _ANCHOR:
            return best
        data = words.tobytes()
        anchor = data[-_ANCHOR * _SIZE :]
        place = len(data) - len(anchor)
        for _ in range(_MOST_TRIES):
            place = data.rfind(anchor, 0, place - 1 + len(anchor))
            if place < 0:
                break
            if place % _SIZE:
                continue
            period = size - _ANCHOR - place // _SIZE
            if _LEAST_TIMES * period > size:
                break
            covered = period + _same(data, period * _SIZE) // _SIZE
            if covered >= _LEAST_TIMES * period and covered > best[0] and _speaks(words[-period:]):
                best = (covered, period)
        return best


def _same(data: bytes, period: int) -> int:
    """Bytes of the longest suffix that equals itself one period earlier, in whole words."""
    low, high = 0, (len(data) - period) // _SIZE
    end = len(data)
    while low < high:
        middle = (low + high + 1) // 2
        start = end - middle * _SIZE
        if data[start:] == data[start - period : end - period]:
            low = middle
        else:
            high = middle - 1
    return low * _SIZE


def _speaks(passage: array[int]) -> bool:
    """True when at least half of the words are words: tables of figures repeat by right."""
    return 2 * sum(word < _FIGURE for word in passage) >= len(passage)
