"""
The same list item again and again, under ever new numbers.

A list repeats its frame by right, but no two of its items are alike. Names under climbing numbers (rooms, chapters)
have the number in the name; here it is the marker of the item, and what follows it is the same to the letter.

Where the prompt says how many items or rows it wants, and half as many again have come, names under climbing numbers
are no better, and items that take turns neither: then rows count, whatever marks them, that stood in the list before,
figures aside. Rows of nothing but figures all do; of them those count whose first figure is one more than that of the
row before, and only where what was asked for is not to be multiplied: ten rows for each, five years month by month.

Whoever has run out of names puts figures to one that stood there without (red, blue, red 1, red 2), or to the words
over the columns. Such rows are counted apart.

So are rows that all hold one number of many figures under climbing ones, in a list or a table, from its first row on:
what is measured or worked out differs in its last figures, and what settles began somewhere else.
"""

from __future__ import annotations

import re
from array import array
from typing import Final
from zlib import crc32

from guard.detect.prompt import Prompt

#: Number of an item at the start of a line, with what may stand around it in Markdown.
_MARKER: Final = re.compile(r"[\s#>*_-]{0,8}[0-9]{1,4}[*_]{0,2}[.):][\s*_\"'`]{1,6}")
#: What an item or a row of any kind begins with.
_ROW: Final = re.compile(r"\s{0,8}[|*+#0-9-]")
_FIGURES: Final = re.compile(r"[0-9]+")
#: What is left out of a row that is compared with others but for its figures.
_LEFT_OUT: Final = re.compile(r"[0-9\s_]+")
#: Characters from which a line that is no row will be none.
_DECIDED: Final = 16
#: Longest row that is compared; two that are longer are never the same.
_LONGEST: Final = 160
#: Characters an item must have: a yes or no may well come a dozen times in a row.
_LEAST: Final = 10
#: Equal items in a row that are not worth asking the prompt about.
_FEW: Final = 4
#: Longest number of a row.
_DIGITS: Final = 9
#: Letters of a row without figures at least, and rows with figures put to it that are not worth a look at the prompt.
_LEAST_NAME: Final = 8
_FEW_AGAIN: Final = 6
#: Rows of a list that are remembered.
_KEPT: Final = 32
#: What stands around the number of a row, and the only number in it: no date, no time, no telephone.
_AROUND: Final = " \t\n.,):|*_`"
_ONE_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9.,]*")
#: Figures such a number has at least, and different ones: prices and zeros come again by right.
_LEAST_FIGURES: Final = 12
_LEAST_DIFFERENT: Final = 6
#: Characters of a row beside its number, above which that is no number, and not kept.
_LONGEST_NUMBER: Final = 64
#: Rows that say nothing yet.
_FEW_ALIKE: Final = 2
#: Rows for each that the prompt asks for, and so many more, from which there are too many.
_MOST: Final = 1.5
_MORE: Final = 3


class ItemRun:
    """
    Follows the list or table the text ends in.

    `run` is the number of items in a row that are the same, `stale` that of rows that stood in it before, figures
    aside, `figures` that of rows of figures that are numbered, `alike` that of those which are the same but for that
    number; `characters` is what the longest of them covers.

    Args:
        size: Characters in a page.
        prompt: What the user asked.
    """

    __slots__ = (
        "_bare", "_last", "_line", "_number", "_prompt", "_said", "_size", "_skip", "_value", "again", "alike",
        "characters", "figures", "rows", "run", "stale",
    )  # fmt: skip

    def __init__(self, size: int, prompt: Prompt) -> None:
        self._size = size
        self._prompt = prompt
        #: What is there of the line, if it may be a row; the item before it.
        self._line = self._last = ""
        #: Hashes of the rows without their figures.
        self._said = array("I")
        #: Those of them that had no figures.
        self._bare = array("I")
        self._skip = False
        #: First figure of the row before; -1 where it had none.
        self._number = -1
        #: What the first row of figures holds beside its number; None before there is one.
        self._value: str | None = None
        self.run = self.stale = self.figures = self.again = self.alike = self.characters = 0
        #: Rows of the list or table.
        self.rows = 0

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
        if len(line) >= _DECIDED and _ROW.match(line) is None:
            self._skip, self._line = True, ""

    def _end(self) -> None:
        line, skipped = self._line, self._skip
        self._line, self._skip = "", False
        if not skipped and not line.strip():
            return  # between two rows there may be an empty line
        if skipped or _ROW.match(line) is None:
            self._last = ""
            del self._said[:]
            del self._bare[:]
            self.run = self.stale = self.figures = self.again = self.alike = self.characters = self.rows = 0
            self._number, self._value = -1, None
            return
        marker = _MARKER.match(line)
        item = line[marker.end() :].strip().casefold() if marker is not None else ""
        if len(item) < _LEAST or len(line) >= _LONGEST or not any(map(str.isalpha, item)):
            self._last, self.run = "", 0
        else:
            self.run = self.run + 1 if item == self._last else 1
            self._last = item
        self.rows += 1
        again = self._again(line)
        self.stale = self.stale + 1 if again else 0
        numbered = self._numbered(line)
        self.figures = self.figures + 1 if numbered else 0
        self.characters = self.characters + len(line) if again or numbered else 0

    def _again(self, line: str) -> bool:
        """Whether a row stood in the list before, figures aside; it does from now on."""
        row = _LEFT_OUT.sub("", line.casefold())
        if len(line) >= _LONGEST or not any(map(str.isalpha, row)):
            self.again = 0
            return False
        key, said = crc32(row.encode("utf-8", "replace")), self._said
        if key in said:
            self.again = self.again + 1 if key in self._bare and _FIGURES.search(line) is not None else 0
            return True
        self.again = 0
        said.append(key)
        del said[:-_KEPT]
        if _FIGURES.search(line) is None and sum(map(str.isalpha, row)) >= _LEAST_NAME:
            self._bare.append(key)
            del self._bare[:-_KEPT]
        return False

    def _numbered(self, line: str) -> bool:
        """Whether a row is of figures alone, and its first one more than that of the row before."""
        found = _FIGURES.search(line) if not any(map(str.isalpha, line)) else None
        number = int(found[0]) if found is not None and len(found[0]) <= _DIGITS else -1
        follows = number == self._number + 1 and self._number >= 0
        self._number = number
        if found is None:
            self.alike = 0
        else:
            value = line[found.end() :].strip(_AROUND)
            self._compare(value if len(value) <= _LONGEST_NUMBER else "", follows)
        return follows

    def _compare(self, value: str, follows: bool) -> None:
        """Count a row that holds the same as all rows of figures before it; another one is the end of that."""
        if self._value is None:
            self._value, self.alike = value, 1
        else:
            self.alike = self.alike + 1 if self.alike and follows and value == self._value else 0

    def same_items(self) -> float:
        """Items in a row that are the same, or rows of which there are too many; 0 where the prompt asks for them."""
        most, prompt = max(self.run, self.stale), self._prompt
        if max(most, self.figures) <= _FEW:
            return float(most)
        if prompt.rows and self.rows > _MOST * prompt.rows + _MORE:
            return float(most if prompt.multiplied else max(most, self.figures))
        return 0.0 if prompt.records else float(self.run)

    def renumbered(self) -> float:
        """Rows in a row that are one without figures, but for those; 0 where the prompt may want as many."""
        count, prompt = self.again, self._prompt
        if count > _FEW_AGAIN and (prompt.times >= count or prompt.stand_ins):
            return 0.0
        return float(count)

    def same_numbers(self) -> float:
        """Rows that hold one and the same long number, all of their list; 0 where the prompt is about figures."""
        value = self._value
        if self.alike <= _FEW_ALIKE or value is None or _ONE_NUMBER.fullmatch(value) is None:
            return 0.0
        figures = [figure for figure in value if "0" <= figure <= "9"]
        if len(figures) < _LEAST_FIGURES or len(set(figures)) < _LEAST_DIFFERENT or self._prompt.numeric:
            return 0.0
        return float(self.alike)

    def pages(self) -> int:
        """Pages that all but the first of them cover, rounded up."""
        return -(-(self.characters + len(self._line)) // self._size)
