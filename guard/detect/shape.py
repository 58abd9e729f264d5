"""
Characters as classes, a page at a time and at C speed.

A page of text becomes bytes, one a character, so that everything that looks for word shape can count
short byte strings instead of running a regular expression over the text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from guard.detect.scripts import classify

#: Classes: a lower and A upper ASCII letter, 0 digit, blank, c closing mark, b brace, q quote, o opening
#: or other mark, n mark that stands inside words, z blank or joiner that shows nothing, R rare character,
#: X letter of a script that is neither Latin nor Greek, l any other letter, s any other symbol.
_MARKS: Final = {
    "c": ".,;:!?)]",
    "b": "}",
    "q": '"',
    "o": "#~*^|<>=+({[`@$%&\\",
    "n": "-/'_",
    " ": " \t\n\r\x0b\x0c",
}
#: Classes of what is no letter, and of what is no mark.
NOT_LETTERS: Final = b"0 cbqonszR"
NOT_MARKS: Final = b"aA0 lzXR"
#: Scripts that stand between Latin letters in ordinary text: symbols of mathematics and units.
AT_HOME: Final = frozenset({"LATIN", "GREEK"})


def _ascii_table() -> bytes:
    table = bytearray(b"R" * 32 + b"s" * 95 + b"R" + b"s" * 128)
    for code in range(128):
        character = chr(code)
        if character.isdigit():
            table[code] = ord("0")
        elif character.isalpha():
            table[code] = ord("a" if character.islower() else "A")
        for name, members in _MARKS.items():
            if character in members:
                table[code] = ord(name)
    # Vertical tab and form feed are control characters to a reader, though blank to a program.
    table[0x0B] = table[0x0C] = ord("R")
    return bytes(table)


_TABLE: Final = _ascii_table()
_CODES: Final = tuple(_TABLE[code] for code in range(128))
#: No-break spaces, soft hyphen, and the characters of no width: rare between Latin letters.
_INVISIBLE: Final = frozenset("\u00a0\u00ad\u200b\u200c\u200d\u202f\u2060\ufeff")
_RARE, _FOREIGN, _LETTER, _SYMBOL, _OPENING, _HIDDEN = (ord(name) for name in "RXlsoz")


def ascii_shape(page: str) -> bytes:
    """Classes of a page of nothing but ASCII."""
    return page.encode().translate(_TABLE)


@lru_cache(maxsize=8192)
def code_of(character: str) -> int:
    """Class of any one character, as a byte."""
    if character < "\x80":
        return _CODES[ord(character)]
    if character in _INVISIBLE:
        return _HIDDEN
    if character == "\u201c":
        return _OPENING
    script, rare, _ = classify(character)
    if rare:
        # Only what a reader sees as damage counts as broken shape; other rare characters have their own signal.
        return _RARE if character == "\ufffd" else _SYMBOL
    if not script:
        return _SYMBOL
    return _LETTER if script in AT_HOME else _FOREIGN


def shape_of(text: str) -> bytes:
    """Classes of any text, a byte for each character."""
    return ascii_shape(text) if text.isascii() else bytes(map(code_of, text))
