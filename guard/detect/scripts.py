"""What kind of character a character is: its script, and whether text has any business with it."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

#: Scripts that are written together count as one.
_TOGETHER = {
    "HIRAGANA": "HAN",
    "KATAKANA": "HAN",
    "KATAKANA-HIRAGANA": "HAN",
    "CJK": "HAN",
    "IDEOGRAPHIC": "HAN",
    "HALFWIDTH": "HAN",
    "FULLWIDTH": "HAN",
    "BOPOMOFO": "HAN",
    "MICRO": "GREEK",
    "OHM": "GREEK",
    "FEMININE": "LATIN",
    "MASCULINE": "LATIN",
    "ANGSTROM": "LATIN",
    "KELVIN": "LATIN",
}
_RARE_CATEGORIES = frozenset({"Cn", "Co", "Cs", "Cc"})
_RARE_HAN = "RARE HAN"


class CharacterClass(NamedTuple):
    """
    A character's class.

    Args:
        script: Script of a letter, as the first word of its Unicode name; empty for all others.
        rare: True for what healthy text does not hold: replacement, private use, unassigned,
            surrogate, noncharacter, control other than tab and line ends, ideographs outside the
            first plane.
    """

    script: str
    rare: bool


@lru_cache(maxsize=8192)
def classify(character: str) -> CharacterClass:
    """Class of one character; never raises, lone surrogates included."""
    category = unicodedata.category(character)
    if category in _RARE_CATEGORIES:
        return CharacterClass("", character not in "\t\n\r")
    if character == "\ufffd":
        return CharacterClass("", True)
    if category[0] != "L":
        return CharacterClass("", False)
    name = unicodedata.name(character, "UNKNOWN")
    first = name.split(" ", 1)[0]
    if first == "CJK" and ord(character) > 0xFFFF:
        return CharacterClass(_RARE_HAN, True)
    if first == "MODIFIER":
        return CharacterClass("", False)
    return CharacterClass(_TOGETHER.get(first, first), False)
