"""
How much of the text since acceptance fell is new words, and how broken they are, where it has no form of its own.

A draft is weak on parts of healthy answers: it fails where sentences turn into code, tables, notation or data, which
hold joints inside words and marks by right, and little that sentences need. A model that reads a spoiled cache says
pieces of words, hardly one of which stood there before, in no form. So what came since the very token of the fall is
looked at by itself, for a window that holds sentences as well looks like neither: code says its names again, and
between any two of them stands a mark; it has short lines, or brackets that close; data has hardly any letters. Some
models put line ends into what they say from a spoiled cache as well, but their lines are broken and begin anyhow; and
lines or figures with gaps or signs of no use, broken in four ways, are no form.

Words that are joined by right are joined in one or two ways: names of code by capitals, formulas by figures, rows of
values by their comma. Pieces of words drawn at random meet in most of the ways there are, and with marks where those
never stand (`guard.detect.misplaced`). Addresses of pages and of mail are no words.

Nothing is counted before it is read, which is done only while the draft fails or soon may.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

from guard.detect.glance import kinds_in
from guard.detect.misplaced import gap, misplaced, stray_signs, without_addresses
from guard.detect.sentences import joints_a_word
from guard.detect.shape import code_of, shape_of
from guard.detect.texture import closed

#: Text since the fall from which there is a reading, and the latest of it that is looked at. Unit: characters.
LEAST: Final = 80
MOST: Final = 256
#: Characters for each line end up to which lines are short.
_LINE: Final = 36
#: Broken joints a word from which short lines have no form, unless so many of them begin alike.
_TORN: Final = 0.04
_ALIKE: Final = 0.5
#: Kinds of joints from which signs of no use, or empty lines, are no form either.
_WRECKED: Final = 4
#: Characters a word, as joints are counted.
_WORD_SIZE: Final = 5.0
#: Brackets that must close what they should, and how many of them for each that closes another: a window may begin
#: within brackets.
_CLOSED: Final = 3
_ORDER: Final = 4
#: What code stands in.
_FENCE: Final = "```"
#: A mark between a letter or figure and a letter; so many of them, and share of the commonest, from which they join.
_JOINING: Final = re.compile(r"(?<=[A-Za-z0-9])[^\w\s'\u2019-](?=[A-Za-z])")
_LEAST_JOINING: Final = 6
_SAME: Final = 0.7
#: Share of the characters, blanks aside, that are letters below which it is no running text.
_FEW_LETTERS: Final = 0.75
#: Words, numbers and runs of marks from which a share of them says anything.
_LEAST_TOKENS: Final = 10
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
    if (right >= _CLOSED and right >= _ORDER * wrong) or _FENCE in text or _same_marks(text):
        return True
    if (gap(text) or stray_signs(text)) and _broken_in(text)[0] >= _WRECKED:
        return False
    if _LINE * text.count("\n") > len(text):
        return joints_a_word(text) < _TORN or _begin_alike(text)
    return sum(map(str.isalpha, text)) < _FEW_LETTERS * sum(map(len, text.split()))


def _broken_in(text: str) -> tuple[float, float]:
    """Of how many kinds broken joints and misplaced marks are, and how many of them each word has."""
    text = without_addresses(text)
    kinds, marks = misplaced(text)
    return float(kinds + kinds_in(shape_of(text))), min(1.0, joints_a_word(text) + _WORD_SIZE * marks / len(text))


def _same_marks(text: str) -> bool:
    """Whether one mark joins most of what is joined, as in rows of values and in qualified names."""
    joining = _JOINING.findall(text)
    return len(joining) >= _LEAST_JOINING and Counter(joining).most_common(1)[0][1] >= _SAME * len(joining)


def _begin_alike(text: str) -> bool:
    """Whether lines share their indentation and the kind of their first character, as rows of code and lists do."""
    # The first of them may have begun before.
    lines = [line for line in text.split("\n")[1:] if line.strip()]
    begins = Counter((len(line) - len(line.lstrip()), code_of(line.lstrip()[0])) for line in lines)
    return bool(lines) and max(begins.values()) >= _ALIKE * len(lines)


def _new_words(before: str, after: str) -> float:
    """Words that never stood before, of all words, numbers and runs of marks."""
    # The last word may go on in the next page. The parts of addresses are marks and words of no sentence.
    words = _WORD.findall(without_addresses(after).lower())[:-1]
    new = set(words).difference(_WORD.findall(before.lower()))
    return sum(not word.isdigit() for word in new) / len(_TOKEN.findall(after))


class NewWords:
    """
    What one fall of acceptance did to the words of one channel.

    Each reading is worked out when it is asked for, the form of the text only where it matters: most often a cheaper
    one has decided before. All are nan while there is too little to tell.
    """

    __slots__ = ("_back", "_broken", "_formed", "_kinds", "_latest", "_new", "_onset")

    def __init__(self) -> None:
        #: Token of the fall that was looked at last, and characters since then.
        self._onset = self._back = -1
        #: The latest text; empty while there is too little since then.
        self._latest = b""
        #: What was worked out of these; negative while it was not.
        self._new = self._broken = self._kinds = -1.0
        self._formed: bool | None = None

    def look(self, onset: int, back: int, latest: bytes) -> None:
        """
        Look at the text once more, if it has grown.

        Args:
            onset: Token at which acceptance fell, by which one fall is told from another.
            back: Characters of whole pages since then; negative when that is not known any more.
            latest: The latest text.
        """
        if onset == self._onset and back == self._back:
            return
        self._onset, self._back, self._latest = onset, back, b""
        self._new = self._broken = self._kinds = -1.0
        self._formed = None
        if not 0 <= back < LEAST:
            self._latest = latest
            # Between blanks stands one of them at least.
            after = self._parts()[1]
            if len(after.split()) < _LEAST_TOKENS and len(_TOKEN.findall(after)) < _LEAST_TOKENS:
                self._latest = b""

    @property
    def new(self) -> float:
        """
        How many of the words, numbers and runs of marks since then, in the latest 256 characters, are words that never
        stood before; 0 where these have the form of code, tables, notation or data.
        """
        if self._new < 0.0 and self._latest:
            before, after = self._parts()
            self._new = self._unless_formed(_new_words(before, after), after)
        return self._new if self._latest else math.nan

    @property
    def broken(self) -> float:
        """How many broken joints and misplaced marks each word has there; 0 as above."""
        self._count_broken()
        return self._broken if self._latest else math.nan

    @property
    def kinds(self) -> float:
        """Of how many kinds these are; 0 as above."""
        self._count_broken()
        return self._kinds if self._latest else math.nan

    def _count_broken(self) -> None:
        if self._broken < 0.0 and self._latest:
            after = self._parts()[1]
            kinds, broken = _broken_in(after)
            self._kinds, self._broken = self._unless_formed(kinds, after), self._unless_formed(broken, after)

    def why(self, name: str) -> str:
        """One of the readings, by its name, in a clause."""
        if name == "broken_words":
            return f"{self.broken:.2f} broken joints a word since then, in no form as of code"
        if name == "joint_kinds":
            return f"words since then are broken in {self.kinds:.0f} ways, in no form as of code"
        return f"{self.new:.0%} of words and marks since then are words that never stood before, in no form as of code"

    def _parts(self) -> tuple[str, str]:
        """The latest text before and since the fall. Not kept: wide characters take four times the room of bytes."""
        text, back = self._latest.decode("utf-8", "ignore"), self._back
        cut = max(len(text) - (MOST if back < 0 else min(back, MOST)), 0)
        while 0 < cut < len(text) and text[cut - 1].isalpha() and text[cut].isalpha():
            cut += 1
        return text[:cut], text[cut:]

    def _unless_formed(self, value: float, after: str) -> float:
        if value <= 0.0:
            return value
        if self._formed is None:
            self._formed = formed(after)
        return 0.0 if self._formed else value
