"""
Marks, blanks and signs where no language has them.

Pieces of words drawn at random meet marks at random. Hyphens hang in the air, sentences end in "the", and between
them stand signs of no use to anybody, of ever new sorts. Joints inside words are those of `guard.detect.glance`; what
is told here takes the text itself, so it is looked for only where the draft fails.
"""

from __future__ import annotations

import re
from typing import Final

#: A hyphen behind a word, and a blank before the next; "two- and threefold" has a short word there. Then a hyphen
#: beside another mark, but not as in "f(-x)" and in names of styles.
_HANGING: Final = re.compile(r"[A-Za-z]- [A-Za-z]{4}|[A-Za-z]-[.,;:)]|[A-Za-z][,;]-[A-Za-z]")
#: One of these is in each.
_HANGS: Final = ("- ", "-.", "-,", "-;", "-:", "-)", ",-", ";-")
#: Words after which another must follow, at the end of a clause and before a comma.
_OPEN_ENDS: Final = ("and", "or", "if", "because", "the", "their", "your", "our", "every")
_OPEN_PARTS: Final = ("of", "from", "into", "the", "their", "your", "our")
_ENDS: Final = ".;:!?)"
#: A clause that ends in one. What it ends in is looked for first: a search from word to word takes far longer.
_UNFINISHED: Final = re.compile(rf"\b(?:{'|'.join(_OPEN_ENDS)})[{_ENDS}]|\b(?:{'|'.join(_OPEN_PARTS)}),")
#: Two or three blanks within a sentence; more of them make columns.
_BLANKS: Final = re.compile(r"[a-z,] {2,3}[a-z]")
#: Three empty lines: so many ends of lines.
_ENDS_OF_GAP: Final = 4
_GAP: Final = re.compile(r"\n[ \t]*\n[ \t]*\n[ \t]*\n")
#: Signs that stand in prose, figures or emoji by right. Those of mathematics, arrows, emoji and the marks of scripts
#: other than Latin are not looked at.
_AT_HOME: Final = frozenset(
    "\u00a1\u00a3\u00a5\u00a7\u00a9\u00aa\u00ab\u00ae\u00b0\u00b1\u00b2\u00b3\u00b5\u00b7\u00b9\u00ba\u00bb\u00bc\u00bd\u00be"
    "\u00d7\u00f7\u200c\u200d\u2010\u2011\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e\u2022\u2026\u2032\u2033\u2039\u203a"
)
_LATIN: Final = "\u0250"
_PUNCTUATION: Final = ("\u2000", "\u206f")
_UNDECODED: Final = "\ufffd"
#: What stands between blanks; and what does not belong to an address that stands in brackets or ends a clause.
_BETWEEN: Final = re.compile(r"\S+")
_AROUND: Final = "<>()[]\"'`.,;:"
#: What an address counts as.
_ADDRESS: Final = "a"
#: Different signs from which they stray, and from which they count as another kind.
_LEAST_SIGNS: Final = 2
_MANY_SIGNS: Final = 4


def without_addresses(text: str) -> str:
    """The text with a letter for each address of a page or of mail, which are full of joints by right."""
    return _BETWEEN.sub(_but_addresses, text) if "://" in text or "@" in text else text


def _but_addresses(found: re.Match[str]) -> str:
    word = found.group()
    if "://" in word:
        return _ADDRESS
    name, at, host = word.strip(_AROUND).partition("@")
    return _ADDRESS if at and name and "." in host and "@" not in host else word


def gap(text: str) -> bool:
    """Whether there are three empty lines in a row, which hardly any form of text leaves."""
    return "\n\n" in text and _GAP.search(text) is not None


def _may_hang(text: str) -> bool:
    """Whether there is a hyphen beside a mark or a blank."""
    return "-" in text and any(pair in text for pair in _HANGS)


def _strays(sign: str) -> bool:
    if sign < "\x80" or sign.isalnum() or sign in _AT_HOME:
        return False
    return sign < _LATIN or _PUNCTUATION[0] <= sign <= _PUNCTUATION[1] or sign == _UNDECODED


def stray_signs(text: str) -> int:
    """How many different signs in a text have no use there, blanks among them; 0 where there are fewer than two."""
    if text.isascii():
        return 0
    signs = {" " if sign.isspace() else sign for sign in set(text) if _strays(sign)}
    return len(signs) if len(signs) >= _LEAST_SIGNS else 0


def _may_be_unfinished(text: str) -> bool:
    """Whether a clause ends in such a word, or in one that ends like it."""
    for end in _ENDS:
        if end in text:
            for clause in text.split(end)[:-1]:
                if clause.endswith(_OPEN_ENDS):
                    return True
    return any(part.endswith(_OPEN_PARTS) for part in text.split(",")[:-1])


def misplaced(text: str) -> tuple[int, int]:
    """
    What stands where it never does.

    Returns:
        Of how many kinds, of five; and how many there are in all.
    """
    hanging = len(_HANGING.findall(text)) if _may_hang(text) else 0
    unfinished = len(_UNFINISHED.findall(text)) if _may_be_unfinished(text) else 0
    gaps = len(_BLANKS.findall(text)) if "  " in text else 0
    gaps += len(_GAP.findall(text)) if text.count("\n") >= _ENDS_OF_GAP else 0
    signs = stray_signs(text)
    kinds = (hanging > 0) + (unfinished > 0) + (gaps > 0) + (signs > 0) + (signs >= _MANY_SIGNS)
    return kinds, hanging + unfinished + gaps + signs
