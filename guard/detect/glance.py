"""
What is counted in the classes of every page: marks, letters, and what broken words show.

Classes are those of guard.detect.shape. Several detectors want the counts, so they are taken once for all.
"""

from __future__ import annotations

from typing import Final

from guard.detect.pages import GLANCE, JOINTS, KINDS
from guard.detect.shape import NOT_LETTERS, NOT_MARKS

#: Marks, letters, small letters in the longest row of them, joints, and rare characters.
Counts = tuple[int, int, int, int, int]
#: Characters of the page before that are looked at again: a row of letters, and so a joint, may begin there.
REACH: Final = 19
#: Those of them that may belong to a joint.
_OVERLAP: Final = 2
#: All classes but that of small letters become blanks.
_SMALL: Final = bytes(byte if byte == ord("a") else ord(" ") for byte in range(256))
#: Joints. A quote between letters, another mark, another script.
_QUOTED: Final = (b"aqa", b"aqA", b"Aqa", b"AqA")
_MARKED: Final = (b"aoa", b"aoA", b"Aoa", b"AoA", b"aooa", b"aooA", b"Aooa")
_MIXED: Final = (b"aX", b"AX", b"Xa", b"XA")
#: A blank or joiner that shows nothing, between letters.
_HIDDEN: Final = (b"aza", b"azA", b"Aza")
#: A closing mark inside a word, or with a blank before it.
_CLOSING: Final = (b"aca", b"acA", b"Aca", b"AcA", b" c ", b" ca", b" cA")
#: Words glued together without end.
_GLUED: Final = b"a" * 16
#: Letters of a script without spaces, a whole page long and not one comma: counts as two joints.
_UNBROKEN: Final = b"X" * 32
#: Kinds of joints: those of capitals, digits, marks of each sort, other scripts, hidden and rare characters, long rows.
_KINDS: Final = (
    (b"aA",), (b"AAaa",), (b"a0", b"0a"), _QUOTED, _MARKED, _MIXED, _HIDDEN, _CLOSING[:4], _CLOSING[4:], (_GLUED,),
    (b"R",),
)  # fmt: skip
#: Classes between which there is never a joint.
_HARMLESS: Final = b"a nbls"


def glance(tail: bytes, shape: bytes) -> Counts:
    """
    Count one page.

    Args:
        tail: Classes of the end of the page before, REACH at most.
        shape: Those of the page, 512 at most.

    Returns:
        Marks, letters and rare characters of the page; small letters in the longest row of them, and joints, also of
        those that begin in the page before.
    """
    if GLANCE is not None:
        return GLANCE(tail, shape)
    marks, letters = len(shape.translate(None, NOT_MARKS)), len(shape.translate(None, NOT_LETTERS))
    longest = max(map(len, (tail + shape).translate(_SMALL).split()), default=0)
    return marks, letters, longest, joints_in(tail[-_OVERLAP:] + shape), shape.count(b"R")


def kinds_in(shape: bytes) -> int:
    """How many different kinds of joints a stretch of text has: code and notation have a few, salad has most."""
    if KINDS is not None:
        return KINDS(shape)
    found = 0
    for kind in _KINDS:
        for joint in kind:
            if joint in shape:
                found += 1
                break
    return found


def joints_in(shape: bytes) -> int:
    """Joints in a stretch of text given as classes."""
    if JOINTS is not None:
        return JOINTS(shape)
    count = shape.count
    joints = count(_GLUED)
    if not shape.translate(None, _HARMLESS):
        return joints
    # Nearly all closing marks stand where they should: behind a word and before a blank.
    if b"c" in shape and (b" c" in shape or count(b"c") != count(b"c ")):
        joints += sum(map(count, _CLOSING))
    if b"A" in shape:
        joints += count(b"aA") + count(b"AAaa")
    if b"0" in shape:
        joints += count(b"a0") + count(b"0a")
    if b"q" in shape:
        joints += sum(map(count, _QUOTED))
    if b"o" in shape:
        joints += sum(map(count, _MARKED))
    if b"X" in shape:
        joints += sum(map(count, _MIXED)) + 2 * count(_UNBROKEN)
    if b"z" in shape:
        joints += sum(map(count, _HIDDEN))
    return joints + count(b"R")
