"""
Broken word shape: what a text looks like when tokens are drawn nearly at random.

Random tokens meet without regard for case, spaces and punctuation ("Errorraday", "rit. Must",
`ky("--.ri`), so joints appear that running text does not have. Code, markup and identifiers have
them by right; therefore the density in the window is measured against the text before it.
"""

from __future__ import annotations

import re
from bisect import insort
from typing import Final

from guard.detect.glance import joints_in
from guard.detect.window import BlockSum

#: Marks that pile up; dots, hyphens, slashes and signs of equality do so by right.
_PILE: Final = re.compile(rb"[!\"$%&'()+,:;<>?@\[\\\]^`{|}~]{3,}")
#: What keys, digests and base64 are written in; lines of them follow one another without a space.
_DENSE: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_\n-"
#: An unbroken run of this many such characters, digits among them, is a payload and not words.
_PAYLOAD: Final = 24
_DIGIT: Final = re.compile(r"[0-9]")
#: A page of a hex dump: bytes and offsets.
_DUMP: Final = re.compile(r"[0-9a-fA-F:\s]*\Z")
#: Classes of an opening mark and of a backslash.
_OPEN: Final = ord("o")
_BACKSLASH: Final = ord("\\")
#: Characters of the page before that a joint on the border may have.
_OVERLAP: Final = 2
#: Characters per word, to turn joints per character into joints per word.
_WORD: Final = 5.0
#: Multiple of its own earlier density that a text may reach before anything counts.
_TOLERANCE: Final = 1.5
#: Stretches of earlier text remembered; when full, every second of them goes, which keeps the median.
_STRETCHES: Final = 32


class GarbleScan:
    """
    Counts joints in each page.

    Joints inside an unbroken run wait until the run ends or is long enough to tell what it is: random
    letters and digits are what a digest should look like.
    """

    def __init__(self) -> None:
        self.joints = 0
        self._run = 0
        self._run_digits = False
        self._pending = 0
        #: Pages without a joint since the last that was looked at, and the latest of them.
        self._before = 0
        self._page = ""

    def feed(self, page: str, tail: bytes, shape: bytes, joints: int) -> None:
        """
        Scan one page.

        Args:
            page: The text.
            tail: Classes of the end of the page before.
            shape: Those of the page.
            joints: In it, also those that begin in the page before.
        """
        # A formula is nothing but joints, and commands with a backslash are hardly drawn by chance.
        if joints and "\\" in page:
            joints = 0
        if joints and _DUMP.match(page) is not None:
            joints = 0
        if not joints and not self._pending:
            self._before += 1
            self._page = page
            self.joints = 0
            return
        if self._before:
            self._catch_up()
        if _OPEN in shape and _BACKSLASH not in shape:
            joints += len(_PILE.findall(page.encode("ascii", "replace")))
        lead = len(page) - len(page.lstrip(_DENSE))
        if lead == len(page):
            self._run += lead
            self._run_digits = self._run_digits or _DIGIT.search(page) is not None
            self._pending += joints
            self.joints = self._settle() if self._run >= _PAYLOAD else 0
            return
        if lead and self._run_digits and self._run + lead >= _PAYLOAD:
            joints -= joints_in((tail[-_OVERLAP:] + shape)[: lead + _OVERLAP])
        trail = len(page.rstrip(_DENSE))
        inside = joints_in(shape[trail:]) if joints else 0
        self.joints = max(0, joints - inside) + self._settle()
        self._begin(page[trail:], inside)

    def _catch_up(self) -> None:
        """Look at the run that the pages without a joint ended in."""
        page, whole = self._page, self._before
        self._before = 0
        trail = len(page.rstrip(_DENSE))
        if trail:
            self._begin(page[trail:], 0)
        else:
            self._run += whole * len(page)
            self._run_digits = self._run_digits or _DIGIT.search(page) is not None

    def _begin(self, run: str, joints: int) -> None:
        self._run, self._pending = len(run), joints
        self._run_digits = _DIGIT.search(run) is not None

    def _settle(self) -> int:
        """Joints of the run so far, none if it is a payload; they are not counted again."""
        joints = 0 if self._run >= _PAYLOAD and self._run_digits else self._pending
        self._pending = 0
        return joints


class GarbleWindow:
    """
    Joints per word over the latest pages, as they are and above what the stream had before.

    Args:
        pages: Pages in the window; None for the whole text.
        size: Characters in a page.
    """

    def __init__(self, pages: int | None, size: int) -> None:
        self._size = size
        self._pages = pages
        self.joints = BlockSum(pages)
        #: Joints of each earlier stretch as long as the window, sorted.
        self._before: list[int] = []
        self._gone = self._gone_pages = 0

    def add(self, joints: int) -> None:
        """Take in the newest page's joints."""
        sums = self.joints
        gone = sums.old
        sums.add(joints)
        if self._pages is None or not sums.old_blocks:
            return
        self._gone += sums.old - gone
        self._gone_pages += 1
        if self._gone_pages == self._pages:
            insort(self._before, self._gone)
            self._gone = self._gone_pages = 0
            if len(self._before) > _STRETCHES:
                self._before = self._before[::2]

    def density(self) -> float:
        """Joints per word, in [0, 1]."""
        return min(1.0, _WORD * self.joints.total / (self.joints.blocks * self._size))

    def value(self) -> float:
        """The same above what the text had before."""
        before = self._before
        if not before or self._pages is None:
            return self.density()
        # The lower median: a bad stretch is no measure of itself until the text has been mostly bad.
        usual = before[(len(before) - 1) // 2]
        return min(1.0, max(0.0, _WORD * (self.joints.total - _TOLERANCE * usual) / (self._pages * self._size)))
