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
#: Dingbats that chats and lists are full of.
_EMOJI = frozenset(
    "\u2702\u2705\u2708\u2709\u270a\u270b\u270c\u270d\u270f\u2712\u2713\u2714\u2715\u2716\u2717\u2718\u271d\u2721\u2728"
    "\u2733\u2734\u2744\u2747\u274c\u274e\u2753\u2754\u2755\u2757\u2763\u2764\u2795\u2796\u2797\u27a1\u27b0\u27bf"
)
_RARE_HAN = "RARE HAN"
#: First and last of each kind of odd signs.
_ODD = (
    ("\u2701", "\u27bf", "DINGBATS"),
    ("\u2800", "\u28ff", "BRAILLE"),
    ("\U0001d400", "\U0001d7ff", "STYLED LETTERS"),
    ("\U0001f700", "\U0001f77f", "ALCHEMY"),
)


class CharacterClass(NamedTuple):
    """
    A character's class.

    Args:
        script: Script of a letter, as the first word of its Unicode name; empty for all others.
        rare: True for what healthy text does not hold: replacement, private use, unassigned,
            surrogate, noncharacter, control other than tab and line ends, ideographs outside the
            first plane.
        odd: Which kind of signs at home in formulae, drawings and lists of symbols, and strange
            anywhere else, it is of; empty for all others.
    """

    script: str
    rare: bool
    odd: str = ""


@lru_cache(maxsize=8192)
def classify(character: str) -> CharacterClass:
    """Class of one character; never raises, lone surrogates included."""
    category = unicodedata.category(character)
    if category in _RARE_CATEGORIES:
        return CharacterClass("", character not in "\t\n\r")
    if character == "\ufffd":
        return CharacterClass("", True)
    odd = _odd(character)
    if odd:
        return CharacterClass("", False, odd)
    if category[0] != "L":
        return CharacterClass("", False)
    name = unicodedata.name(character, "UNKNOWN")
    first = name.split(" ", 1)[0]
    if first == "CJK" and ord(character) > 0xFFFF:
        return CharacterClass(_RARE_HAN, True)
    if first == "MODIFIER":
        return CharacterClass("", False)
    return CharacterClass(_TOGETHER.get(first, first), False)


def _odd(character: str) -> str:
    """Kind of odd sign, or empty."""
    if character < _ODD[0][0] or character in _EMOJI:
        return ""
    return next((kind for first, last, kind in _ODD if first <= character <= last), "")
