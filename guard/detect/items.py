"""
The same list item again and again, under ever new numbers.

A list repeats its frame by right, but no two of its items are alike. Names under climbing numbers (rooms, chapters)
have the number in the name; here it is the marker of the item, and what follows it is the same to the letter.
"""

from __future__ import annotations

import re
from typing import Final

from guard.detect.prompt import Prompt

#: Number of an item at the start of a line, with what may stand around it in Markdown.
_MARKER: Final = re.compile(r"[\s#>*_-]{0,8}[0-9]{1,4}[*_]{0,2}[.):][\s*_\"'`]{1,6}")
#: Characters from which a line that has no such number will have none.
_DECIDED: Final = 16
#: Longest item that is compared; of a longer one its beginning.
_LONGEST: Final = 160
#: Characters an item must have: a yes or no may well come a dozen times in a row.
_LEAST: Final = 10
#: Equal items in a row that are not worth asking the prompt about.
_FEW: Final = 4


class ItemRun:
    """
    Follows the list the text ends in.

    `run` is the number of items in a row that are the same, `characters` what they cover.

    Args:
        size: Characters in a page.
        prompt: What the user asked.
    """

    __slots__ = ("_last", "_line", "_prompt", "_size", "_skip", "characters", "run")

    def __init__(self, size: int, prompt: Prompt) -> None:
        self._size = size
        self._prompt = prompt
        #: What is there of the line, if it may be an item; the item before it.
        self._line = self._last = ""
        self._skip = False
        self.run = 0
        self.characters = 0

    def feed(self, page: str) -> None:
        """Take in one page."""
        if "\n" not in page:
            self._add(page)
            return
        for line in page.splitlines(keepends=True):
            self._add(line)
            if line[-1] == "\n":
                self._end()

    def _add(self, piece: str) -> None:
        if self._skip:
            return
        line = self._line = (self._line + piece)[:_LONGEST]
        if len(line) >= _DECIDED and _MARKER.match(line) is None:
            self._skip, self._line = True, ""

    def _end(self) -> None:
        line, skipped = self._line, self._skip
        self._line, self._skip = "", False
        if not skipped and not line.strip():
            return  # between two items there may be an empty line
        marker = _MARKER.match(line)
        item = line[marker.end() :].strip().casefold() if marker is not None else ""
        if len(item) < _LEAST or not any(map(str.isalpha, item)):
            self._last, self.run, self.characters = "", 0, 0
            return
        if item == self._last:
            self.run += 1
            self.characters += len(line)
        else:
            self._last, self.run, self.characters = item, 1, 0

    def __call__(self) -> float:
        """Items in a row that are the same; 0 where the prompt may have asked for them."""
        return 0.0 if self.run > _FEW and self._prompt.records else float(self.run)

    def pages(self) -> int:
        """Pages that all but the first of them cover, rounded up."""
        return -(-(self.characters + len(self._line)) // self._size)
