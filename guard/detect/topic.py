"""
Whether the text left its subject where acceptance fell.

A model that reads a spoiled cache may still put words together that fit their neighbours, only about
something else. What it says then has hardly a word in common with the prompt and with the answer so far,
from the very token at which its draft lost it. A healthy answer turns to another matter too, but not just where
its draft fails: so only the words after the fall are looked at, once, and held against what stretches of the same
length before it had in common with their own past.

Nothing is counted before it is read, which is done only during a deep fall.
"""

from __future__ import annotations

import math
import re
from typing import Final

from guard.detect.languages import FUNCTION_WORDS
from guard.detect.prompt import Prompt

#: Text kept: some 460 words of English. Unit: bytes.
_KEPT: Final = 2880
#: Words after the fall that are looked at, and in each stretch before it that they are held against.
STRETCH: Final = 60
#: Words after the fall from which there is a first reading.
EARLY: Final = 30
#: Characters within which those words must come.
_REACH: Final = 10 * STRETCH
#: Share of those characters that are words and one blank after each; prose 0.9 and more, tables and code 0.5 to 0.8.
_LEAST_SENTENCES: Final = 0.85
#: Words before the fall from which what is usual can be told.
_LEAST_BEFORE: Final = 180
#: Words that the first of the stretches before it must be able to look back on.
_LEAST_PAST: Final = 60
#: Different words in a stretch of which enough can be told.
_LEAST_WORDS: Final = 8
#: Share of known words below which a text has no subject to leave: lists of names, ever new terms.
_LEAST_KNOWN: Final = 0.15
#: Words at the usual share added to the stretch, so that a handful cannot look like a break.
_PRIOR: Final = 4.0
#: Most that a reading can be while the stretch is not full.
_UNSURE: Final = 0.5
_WORD: Final = re.compile(r"[^\W\d_]+")
#: Letters from which a word that is no function word tells of a subject, and of which it is told by the first so many.
_LETTERS: Final = 4
_STEM: Final = 5


def stems(words: list[str]) -> list[str]:
    """What tells words of a subject apart: their first letters; empty for all other words, in the same order."""
    return [word[:_STEM] if len(word) >= _LETTERS and word not in FUNCTION_WORDS else "" for word in words]


class TopicBreak:
    """
    The latest text of one channel, and what its words had in common with what stood before them.

    Args:
        prompt: What the user wrote: its words are known from the start.
    """

    __slots__ = ("_at", "_fallen", "_onset", "_prompt", "_text", "_usual", "_value", "_waits_for")

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        # Bytes, for there is hardly a smaller thing to keep a text in; when it is full, the newest take the place of
        # the oldest, from here on, and none is moved.
        self._text = bytearray()
        self._at = 0
        #: Token of the fall that was looked at last, what came of it, and the characters after it from which there
        #: is more to look at; 0 once it is settled.
        self._onset = -1
        self._value = math.nan
        self._waits_for = 0
        #: Known words, of those after the fall and of those before it.
        self._fallen = self._usual = math.nan

    def add(self, page: str) -> None:
        """Take in the newest page."""
        text, data = self._text, page.encode("utf-8", "replace")
        if len(text) < _KEPT:
            text += data
            if len(text) >= _KEPT:
                self._text = text[-_KEPT:]
            return
        left, size = _KEPT - self._at, len(data)
        if size < left:
            text[self._at : self._at + size] = data
            self._at += size
        else:
            text[self._at :] = data[:left]
            text[: size - left] = data[left:]
            self._at = size - left

    @property
    def latest(self) -> bytes:
        """The latest text."""
        return bytes(self._text[self._at :] + self._text[: self._at])

    def value(self, onset: int, back: int) -> float:
        """
        How much less of the words is known since acceptance fell.

        Args:
            onset: Token at which it fell, by which one fall is told from another.
            back: Characters of whole pages since then; negative when that is not known any more.

        Returns:
            1 - share of known words now / share of known words in the stretches before; at most 0.5 before a whole
            stretch has come; nan while there is too little to tell.
        """
        if onset != self._onset:
            self._onset, self._value, self._waits_for = onset, math.nan, EARLY * _LETTERS
        if self._waits_for and back >= self._waits_for:
            self._look(back)
        return self._value

    def why(self) -> str:
        """The reading in a clause."""
        return f"{self._fallen:.0%} of the words since then were known from before, {self._usual:.0%} until then"

    def _look(self, back: int) -> None:
        text = self.latest.decode("utf-8", "ignore")
        cut = len(text) - back
        if cut <= 0:
            self._waits_for = 0
            return
        while cut < len(text) and text[cut - 1].isalpha() and text[cut].isalpha():
            cut += 1
        before = _WORD.findall(text[:cut].lower())
        # The last word may go on in the next page.
        found = list(_WORD.finditer(text[cut : cut + _REACH].lower()))[:-1][:STRETCH]
        after = [match[0] for match in found]
        missing = (STRETCH if len(after) >= EARLY else EARLY) - len(after)
        if len(before) < _LEAST_BEFORE or (missing > 0 and back > _REACH):
            self._waits_for, self._value = 0, math.nan
            return
        self._waits_for = back + _LETTERS * missing if missing > 0 else 0
        self._value = math.nan
        if len(after) >= EARLY and sum(map(len, after)) + len(after) >= _LEAST_SENTENCES * found[-1].end():
            self._value = self._compare(before, after)
            if missing > 0:
                self._value = min(self._value, _UNSURE)

    def _compare(self, before: list[str], after: list[str]) -> float:
        row = stems(before + after)
        first = dict.fromkeys(self._prompt.stems_among(row), -1)
        for place, stem in enumerate(row):
            first.setdefault(stem, place)
        size, start = len(after), len(before)
        known, words = self._known(row, first, start, size)
        usual = total = 0
        for place in range(start - size, _LEAST_PAST - 1, -(size // 2)):
            some, all_of = self._known(row, first, place, size)
            usual, total = usual + some, total + all_of
        if words < _LEAST_WORDS or usual < _LEAST_KNOWN * total or not total:
            return math.nan
        self._fallen, self._usual = known / words, usual / total
        return max(0.0, 1.0 - (known + _PRIOR * self._usual) / (words + _PRIOR) / self._usual)

    @staticmethod
    def _known(row: list[str], first: dict[str, int], start: int, size: int) -> tuple[int, int]:
        """Different words of a stretch that stood before it, and all of them."""
        words = set(row[start : start + size])
        words.discard("")
        return sum(first[word] < start for word in words), len(words)
