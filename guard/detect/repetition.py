"""
Exact repetition at the end of a text, for any period up to 2048 characters.

Not the last-seen-position trick, which takes the distance to the latest equal character and so
scores nothing on `a b a c`. Instead: the last ANCHOR characters are looked up in the text before
them; the nearest place they stand gives the smallest period the suffix can have. From there the
run is followed in both directions: back, by bisecting for the longest suffix that equals itself
one period earlier, which makes it exact however late the loop was noticed; forward, block by
block, by comparing each with the text one period back. The first mismatch ends the run and the
search starts afresh, so a chance match can delay a loop by a block but cannot hide it, and a
shorter period that takes over is found as soon as the longer one breaks.

Everything is done on slices at C speed: a few comparisons a block, no work per character.
"""

from __future__ import annotations

import re
from sys import getsizeof
from typing import Final

#: Longest period found. Unit: characters.
MAX_PERIOD: Final = 2048
#: Longest round found. Unit: characters.
MAX_ROUND: Final = 1024
#: Characters that must recur before a repetition is considered at all.
ANCHOR: Final = 24
_KEEP: Final = MAX_PERIOD + ANCHOR
#: Blocks from one search to the next.
_EVERY: Final = 3
#: Bytes a character from which a text is one of emoji or the like, each of them a token or more.
_WIDE: Final = 3
#: Characters at the end that are looked for, and how many of them at a time; of those pieces so many must be found.
_ENDING: Final = 192
_PIECE: Final = 12
_LEAST_PIECES: Final = 4
#: Marks of code, markup and tables.
_CODE: Final = re.compile(r"[^\w\s.,;:!?'\"()-]|_")
#: Text kept beyond that before it is trimmed. Unit: characters.
_SLACK: Final = 192


def round_of(text: str) -> int:
    """
    How far back that which a text ends in stood before, though not letter by letter.

    Args:
        text: What is looked back on, MAX_ROUND characters; its last _ENDING are looked for.

    Returns:
        The median over the pieces of its end that have stood there before; 0 where they are few. Unit: characters.
    """
    text = text[-MAX_ROUND - _ENDING :]
    size = len(text)
    found: list[int] = []
    for start in range(max(1, size - _ENDING), size - _PIECE + 1, _PIECE):
        place = text.rfind(text[start : start + _PIECE], 0, start + _PIECE - 1)
        if place >= 0:
            found.append(start - place)
    if len(found) < _LEAST_PIECES:
        return 0
    found.sort()
    return found[len(found) // 2]


def plainness(passage: str) -> float:
    """Share of letters, figures, blanks and the marks of sentences; 0 for nothing at all."""
    return 1.0 - len(_CODE.findall(passage)) / len(passage) if passage else 0.0


class Repetition:
    """
    Follows the period of the text's suffix.

    `period` and `characters` are the length of the passage and of all its repeats together, both 0
    while nothing repeats; `letters` is the share of letters in the passage.
    """

    __slots__ = ("_most", "_newest", "_skipped", "_text", "characters", "letters", "period")

    def __init__(self) -> None:
        self._text = ""
        #: Blocks that nobody has looked at yet: the text is copied when somebody does.
        self._newest = ""
        self._most = _KEEP + _SLACK
        self._skipped = 0
        self.period = 0
        self.characters = 0
        self.letters = 0.0

    @property
    def count(self) -> float:
        """Whole repeats of the current period; 1 when nothing repeats."""
        return float(max(1, self.characters // self.period)) if self.period else 1.0

    @property
    def latest(self) -> str:
        """The latest text, half as long as MAX_PERIOD at least once there is so much."""
        if self._newest:
            self._text, self._newest = self._text + self._newest, ""
        return self._text

    @property
    def passage(self) -> str:
        """One period of the repetition, beginning anywhere in it; empty while nothing repeats."""
        return self.latest[-self.period :] if self.period else ""

    def feed(self, block: str) -> bool:
        """
        Take in the next characters of the text.

        Returns:
            True while something repeats.
        """
        self._newest += block
        if len(self._text) + len(self._newest) > self._most:
            self._text = self._trim(self.latest)
        period = self.period
        if period:
            text, size = self.latest, len(block)
            if text[-size - period : -period] == block:
                self.characters += size
                return True
            self.period = self.characters = 0
            self.letters = 0.0
        # The search is the dearest step of all detectors; a loop can wait two blocks for it, unless the
        # block is one character over and over, of which each may be a token.
        self._skipped += 1
        if self._skipped >= _EVERY or block[1:] == block[:-1]:
            self._skipped = 0
            self._search(self.latest)
        return self.period > 0

    def _trim(self, text: str) -> str:
        """The latest of it: what the longest period needs, and half of that where a character takes four bytes."""
        keep = _KEEP if getsizeof(text) < _WIDE * len(text) else _KEEP // 2
        self._most = keep + _SLACK
        return text[-keep:]

    def _search(self, text: str) -> None:
        size = len(text)
        if size <= ANCHOR:
            return
        anchor, start = text[-ANCHOR:], max(0, size - _KEEP)
        # `find` skips ahead where `rfind` cannot, so it answers the usual "nowhere" in less time.
        if text.find(anchor, start, size - 1) < 0:
            return
        found = text.rfind(anchor, start, size - 1)
        period = size - ANCHOR - found
        # Longest suffix that equals itself one period earlier: true at `low`, false above `high`.
        low, high = ANCHOR, size - period
        while low < high:
            middle = (low + high + 1) // 2
            if text[-middle:] == text[size - middle - period : size - period]:
                low = middle
            else:
                high = middle - 1
        self.period = period
        self.characters = low + period
        # Rotations of one passage: any window of one period holds the same characters.
        self.letters = sum(map(str.isalpha, text[-period:])) / period
