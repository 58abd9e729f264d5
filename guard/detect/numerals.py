"""
Sentences and lines that are the same but for a numeral in words: the first, the second, the third, and so on.

Rows under climbing figures are followed as items of a list; here the counter is a word, in the midst of others, and
there need be no list. Who counts in words has something to say of each; eighteen of whom nothing is said are rare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: Longest end of a sentence that is looked at first: most have no numeral. Unit: characters.
_NEAR: Final = 320
#: Sentences beyond which it does not matter how many there are, and from which they must have numerals of their own.
_MOST: Final = 32
_FEW: Final = 4
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_TEENS: Final = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_NUMERALS: Final = frozenset((
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", *_TEENS, *_TENS,
    "hundred", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth", *(f"{teen}th" for teen in _TEENS), *(f"{tens[:-1]}ieth" for tens in _TENS), "hundredth",
))  # fmt: skip
_FIGURES: Final = re.compile(r"[0-9]+")
#: What may stand around a word.
_MARKS: Final = ",:*_\"'()[]#|-"
#: Letters of a sentence beside its numerals, at least: "Three! Two! One!" is a countdown.
_LEAST_LETTERS: Final = 8


def alike(text: str) -> int:
    """
    Sentences or lines in a row, up to the latest, that are the same but for a numeral in words, figures aside.

    0 where fewer than half of them have a numeral of their own: what is the same to the letter is a loop like others.

    Args:
        text: The latest text. Its first and its last sentence may be cut, and do not count.
    """
    text = text.casefold()
    frame = next(_sentences(text[-_NEAR:]), None)
    if frame is None or not frame[1] or sum(map(len, frame[0])) < _LEAST_LETTERS:
        return 0
    run = 0
    numerals: set[str] = set()
    for words, numeral in _sentences(text):
        if words != frame[0] or run == _MOST:
            break
        run += 1
        numerals.add(numeral)
        if run >= _FEW and 2 * len(numerals) < run:
            return 0
    return run


def _sentences(text: str) -> Iterator[tuple[list[str], str]]:
    """Words without figures and numerals, and the numerals, of each sentence that has words, the latest first."""
    for end in ".!?;":
        text = text.replace(end, "\n")
    for piece in reversed(text.split("\n")[1:-1]):
        words: list[str] = []
        numerals: list[str] = []
        for word in piece.split():
            bare = word.strip(_MARKS)
            if bare in _NUMERALS or ("-" in bare and _NUMERALS.issuperset(bare.split("-"))):
                numerals.append(bare)
            elif not bare.isdecimal():
                words.append(bare if bare.isalpha() else _FIGURES.sub("", bare))
        if numerals or any(words):
            yield words, " ".join(numerals)
