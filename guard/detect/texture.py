"""
The texture of the latest text: which characters stand side by side, and how often they do so again.

Everything here is counted only when it is read, which most rules do only once something else is wrong.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Final

from guard.detect.glance import REACH

#: Marks per character from which pairs of marks are counted at all.
LEAST_MARKS: Final = 0.06
_MARKS: Final = re.compile(r"[!-/:-@\[-^`{-~]{2,}")
#: What closes what; brackets that close what they should from which marks are in order, and how many of them for each
#: that closes another one.
_BRACKETS: Final = {")": "(", "]": "[", "}": "{"}
_OPENING: Final = frozenset(_BRACKETS.values())
_CLOSED: Final = 3
_ORDER: Final = 8
#: Letters in a row from which they are more than a word; German compounds reach it now and then.
_LONG: Final = re.compile(r"[a-z]{20,}")
_LEAST_RUN: Final = REACH + 1
#: Different letters in a run of them below which it is no words glued together, but a strand of DNA or a shout.
_LEAST_LETTERS: Final = 7
#: Tokens that steer a model and are never part of an answer, written out.
_SPECIAL: Final = re.compile(
    r"<\|\w{1,40}\|>|<0x[0-9A-Fa-f]{2}>|<extra_id_\d+>|\[unused\d+\]|\[(?:PAD|UNK|MASK|CLS|SEP)\]|"
    r"<(?:unk|pad|eos|bos|mask)>"
)
#: Ideographs and kana, which stand side by side without blanks.
_IDEOGRAPHS: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]{2,}")
#: Pairs of ideographs for each character of a window from which their recurrence says anything: fewer come back in a
#: few lines of a terse text than in all of it.
_LEAST_PAIRS: Final = 2 / 3
#: Share of letters up to which a text is one of figures and marks.
_FEW_LETTERS: Final = 0.25
#: Share of digits from which they are one long number.
_MOST_DIGITS: Final = 0.95
#: Characters of which letters are counted at a time.
_GLANCE: Final = 96


def closed(text: str) -> tuple[int, int]:
    """
    How the brackets of a text close.

    Args:
        text: Any; it may begin within brackets.

    Returns:
        Those that close the bracket that was opened last and have something in it, and those that close another one.
    """
    stack: list[str] = []
    right = wrong = 0
    before = ""
    for character in text:
        if character in _OPENING:
            stack.append(character)
        elif character in _BRACKETS and stack:
            if stack[-1] != _BRACKETS[character]:
                wrong += 1
            else:
                # An empty pair is one token of many vocabularies.
                right += before != stack.pop()
        before = character
    return right, wrong


class Texture:
    """
    The latest pages as they are.

    Args:
        size: Characters in a page.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._limit = 0
        # Lists are smaller than deques, and there is a handful of pages.
        self._pages: list[str] = []
        self._marks: list[int] = []
        #: The latest so many pages in one, of those asked for since the newest came.
        self._joined: dict[int, str] = {}
        #: Pages in a row in which no pair of ideographs or kana stands or ends, and in which no long run of small
        #: letters does.
        self._narrow = self._short = 0
        self._last = ""

    def window(self, pages: int) -> TextureWindow:
        """The latest so many pages."""
        self._limit = max(self._limit, pages)
        return TextureWindow(self, pages)

    def add(self, page: str, marks: int, longest: int) -> None:
        """
        Take in the newest page.

        Args:
            page: The text.
            marks: In it.
            longest: Small letters in the longest row of them that ends in it.
        """
        pages, counts = self._pages, self._marks
        self._narrow = self._narrow + 1 if page.isascii() or not _IDEOGRAPHS.search(self._last + page) else 0
        self._last = page[-1:]
        self._short = 0 if longest >= _LEAST_RUN else self._short + 1
        if len(pages) == self._limit:
            del pages[0]
            del counts[0]
        pages.append(page)
        counts.append(marks)
        if self._joined:
            self._joined.clear()

    def text(self, pages: int) -> str:
        """The latest pages in one."""
        text = self._joined.get(pages)
        if text is None:
            text = self._joined[pages] = "".join(self._pages[-pages:])
        return text

    def narrow(self, pages: int) -> bool:
        """Whether no two ideographs or kana stand side by side in them."""
        return self._narrow >= pages or self._narrow >= len(self._pages)

    def long(self, pages: int) -> bool:
        """Whether they may hold a run of small letters longer than a word."""
        return self._short < pages and self._short < len(self._pages)

    def marks(self, pages: int) -> int:
        """Marks in them."""
        return sum(self._marks[-pages:])


class TextureWindow:
    """
    Readings of the latest pages.

    Args:
        texture: Where they are kept.
        pages: Pages in the window.
    """

    __slots__ = ("_characters", "_pages", "_texture")

    def __init__(self, texture: Texture, pages: int) -> None:
        self._texture = texture
        self._pages = pages
        self._characters = pages * texture.size

    def _text(self) -> str:
        return self._texture.text(self._pages)

    def _dense(self) -> bool:
        return self._texture.marks(self._pages) >= LEAST_MARKS * self._characters

    def symbol_salad(self) -> float:
        """
        Different pairs of unlike ASCII marks, side by side, per character.

        Code, formulae and drawings are dense with marks, but with the same pairs of them again and again.
        Marks drawn at random meet in ever new pairs, and their brackets do not close what they should, as those of
        regular expressions do. A window that is not full counts as padded with blanks.
        """
        if not self._dense():
            return 0.0
        text = self._text()
        runs = _MARKS.findall(text)
        pairs = {pair for run in runs for pair in pairwise(run) if pair[0] != pair[1]}
        if not pairs:
            return 0.0
        right, wrong = closed(text)
        return 0.0 if right >= _CLOSED and right >= _ORDER * wrong else min(1.0, len(pairs) / self._characters)

    def figure_salad(self) -> float:
        """
        Characters that, with the two before them, the window already had; 0 where it is no row of figures and marks.

        Tables and matrices of figures have line ends, prose has letters, and one long number has no marks.
        """
        text = self._text()
        if len(text) < self._characters or "\n" in text:
            return 0.0
        letters, most = 0, _FEW_LETTERS * len(text)
        for start in range(0, len(text), _GLANCE):  # of prose the first glance is enough
            letters += sum(map(str.isalpha, text[start : start + _GLANCE]))
            if letters > most:
                return 0.0
        if sum(map(str.isdigit, text)) > _MOST_DIGITS * len(text):
            return 0.0
        return 1.0 - len(set(zip(text, text[1:], text[2:], strict=False))) / (len(text) - 2)

    def special_tokens(self) -> float:
        """How many special tokens stand written out."""
        if not self._dense():
            return 0.0
        return float(len(_SPECIAL.findall(self._text())))

    def pair_recurrence(self) -> float:
        """Pairs of ideographs or kana that the window already had, of all; nan while there are few."""
        if self._texture.narrow(self._pages):
            return math.nan
        text = self._text()
        pairs = [pair for run in _IDEOGRAPHS.findall(text) for pair in pairwise(run)]
        if len(pairs) < _LEAST_PAIRS * self._characters:
            return math.nan
        return 1.0 - len(set(pairs)) / len(pairs)

    def glued_words(self) -> float:
        """Characters in unbroken runs of lower-case letters longer than words are, of all."""
        if not self._texture.long(self._pages):
            return 0.0
        runs = [run for run in _LONG.findall(self._text()) if len(set(run)) >= _LEAST_LETTERS]
        return sum(map(len, runs)) / self._characters
