"""
How little the latest text adds to what stood right before it.

A loop need not come back letter by letter: an indent grows, figures take turns. Whatever it is, it can be written in a
fraction of the bytes once the text before it is known. So the latest tokens are compressed, with half as many before
them as a dictionary: a passage that is said once more, and no third time, is then about as long as it is.

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
#: Different letters and figures of a window at least: one alone may be the zeros of a large number, or a ruled line.
_LEAST: Final = 2
#: Share of letters that a window has at least where so many of something were asked for.
_MANY: Final = 0.3
#: Sameness that is not worth asking the prompt about.
_LITTLE: Final = 0.1
_WORD: Final = re.compile(r"[^\W\d_]+|[0-9]+")


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
    Whether text that is the same all over may be what the prompt asks for.

    Args:
        prompt: What the user asked.
        text: The latest text. Its first and its last word may be cut, and do not count.
    """
    if prompt.uniform or len(set(filter(str.isalnum, text))) < _LEAST:
        return True
    words = _WORD.findall(text.casefold())[1:-1]
    if prompt.times:
        # So many of something: figures, or the very words of the prompt, may be what is to be said so often.
        letters = sum(map(str.isalpha, text))
        if letters < _MANY * len(text) or prompt.has_words(words):
            return True
    return prompt.says(words)


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
    return value if value > _LITTLE and not meant(prompt, text) else 0.0
