"""
Whether running text ceased to be sentences where acceptance fell.

A model that reads a spoiled cache may go on with pieces of words and words at random, in which some of those that
sentences need still stand, and which break too few words to tell by that alone. What gives it away is the place: up
to the very token at which its draft lost it there were sentences. A healthy answer turns from sentences into code,
tables or names as well, but it does so on a line of its own, says their words again, or writes them in short forms
and figures; so only running text of whole words counts that has hardly been said before, in which some words are
broken.

Nothing is counted before it is read, which is done only during a deep fall.
"""

from __future__ import annotations

import math
import re
from typing import Final

from guard.detect.garble import GarbleScan
from guard.detect.glance import REACH, glance
from guard.detect.languages import function_share
from guard.detect.prompt import Prompt
from guard.detect.shape import shape_of

#: Text after the fall from which there is a reading, and more that changes it no more. Unit: characters.
STRETCH: Final = 320
MOST: Final = 400
#: Text before the fall that it is held against. Unit: characters.
_BEFORE: Final = 600
#: Characters in which joints are looked for at a time.
_PAGE: Final = 64
#: Words before the fall, and after it, from which the share of function words says anything.
_LEAST_BEFORE: Final = 30
_LEAST_AFTER: Final = 16
#: Share of function words of what is sentences; and most joints a word there, since code has some by right.
_LEAST_USUAL: Final = 0.4
_MOST_JOINTS: Final = 0.02
#: Joints a word from which words are broken: one in thirty.
_LEAST_JOINTS: Final = 0.035
#: Share of the words that did not stand there before.
_LEAST_NEW: Final = 0.65
#: Characters for each line end at least: salad has some, lists and code many.
_LINE: Final = 60
#: Share of the characters that are words and one blank after each; letters a word on average. Formulas, commands and
#: what is written in abbreviations have less of either, all garbled text but figures and marks has more.
_LEAST_WORDS: Final = 0.72
_LEAST_LETTERS: Final = 3.5
#: Characters a word, as joints are counted.
_WORD_SIZE: Final = 5.0
_WORD: Final = re.compile(r"[^\W\d_]+")


def joints_a_word(text: str) -> float:
    """
    Broken joints for each word of a text.

    Args:
        text: Not empty.
    """
    scan, joints, shape = GarbleScan(), 0, b""
    for start in range(0, len(text), _PAGE):
        page = text[start : start + _PAGE]
        tail, shape = shape[-REACH:], shape_of(page)
        scan.feed(page, tail, shape, glance(tail, shape)[3])
        joints += scan.joints
    return _WORD_SIZE * joints / len(text)


class SentenceBreak:
    """
    What one fall of acceptance did to the sentences of one channel.

    Args:
        prompt: What the user wrote: text without sense may be what it asks for, or what it holds.
    """

    __slots__ = ("_now", "_onset", "_prompt", "_usual", "_value", "_waits_for")

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        #: Token of the fall that was looked at last, what came of it, and the characters after it from which there
        #: is more to look at; 0 once it is settled.
        self._onset = -1
        self._value = math.nan
        self._waits_for = 0
        #: Share of function words after the fall, and before it.
        self._now = self._usual = math.nan

    def value(self, onset: int, back: int, latest: bytes) -> float:
        """
        How much rarer the words became that sentences need.

        Args:
            onset: Token at which acceptance fell, by which one fall is told from another.
            back: Characters of whole pages since then; negative when that is not known any more.
            latest: The latest text.

        Returns:
            1 - share of function words now / share of them before; 0 where what follows is no running text of new
            words with broken ones among them; nan while there is too little to tell, and where no sentences stood
            before.
        """
        if onset != self._onset:
            self._onset, self._value, self._waits_for = onset, math.nan, STRETCH
        if self._waits_for and back >= self._waits_for:
            self._look(latest.decode("utf-8", "ignore"), back)
        return self._value

    def why(self) -> str:
        """The reading in a clause."""
        return f"{self._now:.0%} of the words since then are those that sentences need, {self._usual:.0%} until then"

    def _look(self, text: str, back: int) -> None:
        cut = len(text) - back
        if cut <= 0:
            self._waits_for = 0
            return
        while cut < len(text) and text[cut - 1].isalpha() and text[cut].isalpha():
            cut += 1
        after = text[cut : cut + MOST]
        self._waits_for = 0 if len(after) == MOST else back + 1
        if len(after) >= STRETCH:
            self._value = self._compare(text[:cut], after)

    def _compare(self, before: str, after: str) -> float:
        known = _WORD.findall(before.lower())
        usual = _WORD.findall(before[-_BEFORE:].lower())
        # The last word may go on in the next page.
        words = _WORD.findall(after.lower())[:-1]
        if len(usual) < _LEAST_BEFORE or len(words) < _LEAST_AFTER:
            return math.nan
        self._usual, self._now = function_share(usual), function_share(words)
        if self._usual < _LEAST_USUAL or joints_a_word(before[-_BEFORE:]) > _MOST_JOINTS:
            return math.nan
        letters, new = sum(map(len, words)), len(set(words) - set(known))
        if _LINE * after.count("\n") > len(after) or letters + len(words) < _LEAST_WORDS * len(after):
            return 0.0
        if letters < _LEAST_LETTERS * len(words) or new < _LEAST_NEW * len(words):
            return 0.0
        if joints_a_word(after) < _LEAST_JOINTS or self._prompt.random or self._prompt.says(words):
            return 0.0
        return max(0.0, 1.0 - self._now / self._usual)
