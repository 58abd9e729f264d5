"""
How little the latest text adds to what stood right before it.

A loop need not come back letter by letter: a counter climbs, a word changes, two sentences take turns, single letters
come in ever another order. Whatever it is, it can be written in a fraction of the bytes once the text before it is
known, in any language and in figures as well. So the latest tokens are compressed, with as many before them as a
dictionary: a passage that is quoted once more from farther back is then as long as it is.

It is worked out only when it is read, which policies do only while the draft is hardly ever wrong.
"""

from __future__ import annotations

import zlib
from typing import Final

from guard.detect.prompt import Prompt

#: Longest window. Unit: characters.
MOST: Final = 1024
#: Deflate with a window of 2 KiB and little memory; what is compressed is no longer.
_LEVEL, _BITS, _MEMORY = 6, -11, 4
#: Share of letters below which a window is one of figures, and what a window has where a number of things was asked for.
_FEW: Final = 0.1
_MANY: Final = 0.3
#: Different letters and figures of a window at least: one alone may be the zeros of a large number, or a ruled line.
_LEAST: Final = 2
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


def meant(prompt: Prompt, text: str) -> bool:
    """
    Whether text with hardly anything new in it may be what the prompt asks for, as far as the text tells.

    Args:
        prompt: What the user asked.
        text: The latest text.
    """
    if len(set(filter(str.isalnum, text))) < _LEAST:
        return True
    if not prompt.times:
        return False
    # So many of something: figures, or the very words of the prompt, may be what is to be said so often.
    letters = sum(map(str.isalpha, text))
    return letters < _MANY * len(text) or prompt.has_words(text)


def span(prompt: Prompt, text: str) -> float:
    """
    How many times the usual window the text must go on like this.

    Args:
        prompt: What the user asked.
        text: The latest text.
    """
    figures = sum(map(str.isalpha, text)) < _FEW * len(text)
    return prompt.patience * (_FIGURES if figures else 1.0)
