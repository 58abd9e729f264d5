"""
Texts without what they say, for recordings: length, case, script, spaces, punctuation and odd characters stay.

`redact` makes all letters of a script the same. Nothing of a word is left but its length, so that different
words look alike and rules on repetition fire too often. `scramble` puts other letters in their place,
drawn by a key that is thrown away: equal words stay equal, so that rules read the text nearly as it was,
but how often a word comes back can be seen.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

from guard.detect.scripts import classify

#: A letter for each of the commonest scripts; for others the first letter that the script has.
_LETTERS = {
    "LATIN": "x", "GREEK": "ξ", "CYRILLIC": "ж", "HAN": "字", "HANGUL": "가", "ARABIC": "ع",
}  # fmt: skip
#: Styled letters and digits of mathematics, strange outside formulae and so kept apart.
_STYLED = "\U0001d400", "\U0001d7ff"
_STYLED_LETTER, _STYLED_DIGIT = "𝑥", "𝟎"
_RARE_LETTER = "\U00020000"
#: Vowel signs and accents say as much as letters do.
_MARK = "\u0301"
#: Letters that a scrambled word of the script is written in.
_ALPHABETS = {
    "LATIN": "abcdefghijklmnopqrstuvwxyz",
    "GREEK": "αβγδεζηθικλμνξοπρστυφχψω",
    "CYRILLIC": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "HAN": "".join(map(chr, range(0x4E00, 0x5200))),
    "HANGUL": "".join(map(chr, range(0xAC00, 0xB000))),
    "ARABIC": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
}
#: Runs of letters, marks and digits; where no spaces are written, each character is a word of its own. Long
#: runs are taken in pieces, so that a loop without spaces stays one.
_WORD = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]|[^\W_\u2e80-\u9fff\uf900-\ufaff]{1,16}")


def redact(text: str) -> str:
    """
    The shape of a text without what it says: each letter becomes the letter of its script, with its case,
    each digit 0; spaces, punctuation, symbols and characters that no text should hold stay.
    """
    return "".join(map(_redacted, text))


@lru_cache(maxsize=8192)
def _redacted(character: str) -> str:
    if _STYLED[0] <= character <= _STYLED[1]:
        return _STYLED_DIGIT if character.isdecimal() else _STYLED_LETTER
    if not character.isalpha():
        if character.isnumeric():
            return "0"
        return _MARK if unicodedata.category(character)[0] == "M" else character
    found = classify(character)
    if found.rare:
        return _RARE_LETTER
    letter = _LETTERS.get(found.script) or first_letters().get(found.script, "x")
    return letter.upper() if character.isupper() or character.istitle() else letter


@lru_cache(maxsize=1)
def first_letters() -> dict[str, str]:
    """
    The first letter of each script in the first two planes, small where there is a case.

    Looking for them takes a fifth of a second, once in a process: call it before there is traffic.
    """
    found: dict[str, str] = {}
    for code in range(0x20000):
        character = chr(code)
        if character.isalpha():
            found.setdefault(classify.__wrapped__(character).script, character.lower())
    return found


def scramble(text: str, key: bytes) -> str:
    """
    A text in which each word is another one of the same shape, the same for equal words.

    Args:
        text: What was said.
        key: Random bytes, used for one recording and then forgotten.
    """
    out = _WORD.sub(lambda found: _scrambled(found.group(), key), text)
    if out.isascii():
        return out
    return "".join(_MARK if unicodedata.category(character)[0] == "M" else character for character in out)


def _scrambled(word: str, key: bytes) -> str:
    draws = hashlib.shake_128(key + word.casefold().encode("utf-8", "surrogatepass")).digest(2 * len(word))
    return "".join(
        _drawn(character, int.from_bytes(draws[2 * place : 2 * place + 2])) for place, character in enumerate(word)
    )


def _drawn(character: str, draw: int) -> str:
    if _STYLED[0] <= character <= _STYLED[1]:
        return _redacted(character)
    if character.isdecimal():
        return str(draw % 10)
    if not character.isalpha():
        return _redacted(character)
    alphabet = _ALPHABETS.get(classify(character).script)
    if alphabet is None:
        return _redacted(character)
    letter = alphabet[draw % len(alphabet)]
    return letter.upper() if character.isupper() or character.istitle() else letter
