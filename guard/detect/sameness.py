"""
How little the latest text adds to what stood right before it.

A loop need not come back letter by letter: a counter climbs, a word changes, two sentences take turns, single letters
come in ever another order. Whatever it is, it can be written in a fraction of the bytes once the text before it is
known, in any language and in figures as well. So the latest tokens are compressed, with half as many before them as a
dictionary: a passage that is said once more, and no third time, is then about as long as it is.

It is worked out only when it is read, which policies do only while the draft is hardly ever wrong.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from guard.detect.prompt import Prompt

#: Longest window. Unit: characters.
MOST: Final = 1024
#: Deflate with a window of 2 KiB and little memory; what is compressed is no longer.
_LEVEL, _BITS, _MEMORY = 6, -11, 4
#: Share of letters below which a window is one of figures, and the least where so many things were asked for.
_FEW: Final = 0.1
_MANY: Final = 0.3
#: Different letters and figures of a window at least: one alone may be the zeros of a large number, or a ruled line.
_LEAST: Final = 2
#: Sameness that is not worth asking the prompt about.
_LITTLE: Final = 0.1
#: Longest number that can be a counter. Unit: digits.
_LONGEST: Final = 9
_WORD: Final = re.compile(r"[^\W\d_]+|[0-9]+")
#: How much longer figures must go on than text.
_FIGURES: Final = 4 / 3


def added(text: str, before: str) -> int:
    """
    Bytes that it takes to write a text down for who knows what stood before it.

    Args:
        text: At most MOST characters.
        before: What stood right before; what is the same is known.
    """
    known = before.encode("utf-8", "replace")
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _BITS, _MEMORY, zlib.Z_DEFAULT_STRATEGY, known)
    return len(packer.compress(text.encode("utf-8", "replace"))) + len(packer.flush())


def news(text: str, before: str, *, counters: bool) -> float:
    """
    Words and numbers that stand here for the first time, of all.

    Args:
        text: Its first and its last word may be cut, and do not count.
        before: What stood right before.
        counters: Whether a number one more than the last is new.
    """
    told = _WORD.findall(before.casefold())
    words = _WORD.findall(text.casefold())[1:-1]
    known, new = set(told), 0
    last = next((int(word) for word in reversed(told) if _number(word)), 0)
    for word in words:
        counted = False
        if _number(word):
            counted = int(word) == last + 1 and last > 0 and not counters
            last = int(word)
        new += word not in known and not counted
        known.add(word)
    return new / len(words) if words else 0.0


def _number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= _LONGEST


def meant(prompt: Prompt, text: str, before: str) -> bool:
    """
    Whether text with hardly anything new in it may be what the prompt asks for.

    Args:
        prompt: What the user asked.
        text: The latest text.
        before: What stood right before.
    """
    if len(set(filter(str.isalnum, text))) < _LEAST:
        return True
    letters, most = sum(map(str.isalpha, text)) / len(text), prompt.news
    if letters < (_MANY if prompt.times else _FEW if not most else 0.0):
        return True
    words = _WORD.findall(text.casefold())[1:-1]
    # So many of something: the very words of the prompt may be what is to be said so often.
    if prompt.times and prompt.has_words(words):
        return True
    if most < 1.0 and news(text, before, counters=not most) > most:
        return True
    return prompt.says(words)


def span(prompt: Prompt, text: str) -> float:
    """
    How many times the usual window the text must go on like this.

    Args:
        prompt: What the user asked.
        text: The latest text.
    """
    figures = sum(map(str.isalpha, text)) < _FEW * len(text)
    return prompt.patience * (_FIGURES if figures else 1.0)


def sameness(prompt: Prompt, text: str, before: str, tokens: int) -> float:
    """
    1 less the bytes for each token that a text takes; 0 where it may be what was asked for.

    Args:
        prompt: What the user asked.
        text: At most MOST characters, not empty.
        before: What stood right before.
        tokens: Of the text; at least 1.
    """
    value = 1.0 - added(text, before) / tokens
    return value if value > _LITTLE and not meant(prompt, text, before) else 0.0
