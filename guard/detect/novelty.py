"""
How much of the text since acceptance fell is new words, where it has no form of its own.

A draft is weak on parts of healthy answers: it fails where sentences turn into code, tables, notation or data, which
hold joints inside words and marks by right, and little that sentences need. A model that reads a spoiled cache says
pieces of words, hardly one of which stood there before, in no form. So what came since the very token of the fall is
looked at by itself, for a window that holds sentences as well looks like neither: code says its names again, and
between any two of them stands a mark; it has short lines, or brackets that close; data has hardly any letters.

Nothing is counted before it is read, which is done only while the draft fails.
"""

from __future__ import annotations

import math
import re
from typing import Final

from guard.detect.texture import closed

#: Text since the fall from which there is a reading, and the latest of it that is looked at. Unit: characters.
LEAST: Final = 112
MOST: Final = 256
#: Characters for each line end up to which lines are short.
_LINE: Final = 36
#: Brackets that must close what they should, none of them anything else.
_CLOSED: Final = 3
#: Share of the characters that are letters below which it is no running text.
_FEW_LETTERS: Final = 0.6
#: Words, numbers and runs of marks from which a share of them says anything.
_LEAST_TOKENS: Final = 16
#: Words with their digits, and those, numbers and runs of marks.
_WORD: Final = re.compile(r"[^\W_]+")
_TOKEN: Final = re.compile(r"[^\W_]+|[^\w\s]+|_+")


def formed(text: str) -> bool:
    """
    Whether a text has the form of code, tables, notation or data.

    Args:
        text: Not empty.
    """
    if _LINE * text.count("\n") > len(text) or sum(map(str.isalpha, text)) < _FEW_LETTERS * len(text):
        return True
    right, wrong = closed(text)
    return right >= _CLOSED and not wrong


class NewWords:
    """What one fall of acceptance did to the words of one channel."""

    __slots__ = ("_back", "_onset", "_value")

    def __init__(self) -> None:
        #: Token of the fall that was looked at last, characters since then, and what came of it.
        self._onset = self._back = -1
        self._value = math.nan

    def value(self, onset: int, back: int, latest: bytes) -> float:
        """
        New words since acceptance fell, of all its words, numbers and runs of marks.

        Args:
            onset: Token at which it fell, by which one fall is told from another.
            back: Characters of whole pages since then; negative when that is not known any more.
            latest: The latest text.

        Returns:
            Of the latest 256 characters; 0 where these have the form of code, tables, notation or data; nan while
            there is too little to tell.
        """
        if onset != self._onset or back != self._back:
            self._onset, self._back = onset, back
            self._value = math.nan if 0 <= back < LEAST else self._look(latest.decode("utf-8", "ignore"), back)
        return self._value

    def why(self) -> str:
        """The reading in a clause."""
        return (
            f"{self._value:.0%} of words and marks since then are words that never stood before, in no form as of code"
        )

    @staticmethod
    def _look(text: str, back: int) -> float:
        cut = len(text) - (MOST if back < 0 else min(back, MOST))
        cut = max(cut, 0)
        while 0 < cut < len(text) and text[cut - 1].isalpha() and text[cut].isalpha():
            cut += 1
        after = text[cut:].lower()
        # The last word may go on in the next page.
        words, tokens = _WORD.findall(after)[:-1], len(_TOKEN.findall(after))
        if tokens < _LEAST_TOKENS:
            return math.nan
        if formed(after):
            return 0.0
        new = set(words).difference(_WORD.findall(text[:cut].lower()))
        return sum(not word.isdigit() for word in new) / tokens
