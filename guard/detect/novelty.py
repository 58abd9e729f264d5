"""
How much of the text since acceptance fell is new words, where it has no form of its own.

A draft is weak on parts of healthy answers: it fails where sentences turn into code, tables, notation or data, which
hold joints inside words and marks by right, and little that sentences need. A model that reads a spoiled cache says
pieces of words, hardly one of which stood there before, in no form. So what came since the very token of the fall is
looked at by itself, for a window that holds sentences as well looks like neither: code says its names again, and
between any two of them stands a mark; it has short lines, or brackets that close; data has hardly any letters. Some
models put line ends into what they say from a spoiled cache as well, but their lines are broken and begin anyhow.

Nothing is counted before it is read, which is done only while the draft fails.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

from guard.detect.sentences import joints_a_word
from guard.detect.shape import code_of
from guard.detect.texture import closed

#: Text since the fall from which there is a reading, and the latest of it that is looked at. Unit: characters.
LEAST: Final = 112
MOST: Final = 256
#: Characters for each line end up to which lines are short.
_LINE: Final = 36
#: Broken joints a word from which short lines have no form, unless so many of them begin alike.
_TORN: Final = 0.04
_ALIKE: Final = 0.5
#: Brackets that must close what they should, none of them anything else.
_CLOSED: Final = 3
#: Share of the characters, blanks aside, that are letters below which it is no running text.
_FEW_LETTERS: Final = 0.75
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
    right, wrong = closed(text)
    if right >= _CLOSED and not wrong:
        return True
    if _LINE * text.count("\n") > len(text):
        return joints_a_word(text) < _TORN or _begin_alike(text)
    return sum(map(str.isalpha, text)) < _FEW_LETTERS * sum(map(len, text.split()))


def _begin_alike(text: str) -> bool:
    """Whether lines share their indentation and the kind of their first character, as rows of code and lists do."""
    # The first of them may have begun before.
    lines = [line for line in text.split("\n")[1:] if line.strip()]
    begins = Counter((len(line) - len(line.lstrip()), code_of(line.lstrip()[0])) for line in lines)
    return bool(lines) and max(begins.values()) >= _ALIKE * len(lines)


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
        after = text[cut:]
        # The last word may go on in the next page.
        words, tokens = _WORD.findall(after.lower())[:-1], len(_TOKEN.findall(after))
        if tokens < _LEAST_TOKENS:
            return math.nan
        if formed(after):
            return 0.0
        new = set(words).difference(_WORD.findall(text[:cut].lower()))
        return sum(not word.isdigit() for word in new) / tokens
