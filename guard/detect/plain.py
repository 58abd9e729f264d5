"""
Words in a row without a mark.

Sentences have a comma, a full stop, a quote or a line end every dozen words or so, whatever the language;
pieces of words drawn at random have none for as long as they go on.
"""

from __future__ import annotations

from typing import Final

#: Classes that go on with a row of words: letters and blanks.
_WORDY: Final = b"aAlXz "


class PlainRun:
    """
    Follows the row of words the text ends in.

    `words` are those complete, `characters` all that the row covers.

    Args:
        size: Characters in a page.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.words = 0
        self.characters = 0

    def feed(self, page: str, shape: bytes) -> None:
        """
        Take in one page.

        Args:
            page: The text.
            shape: Its classes.
        """
        start = len(shape.rstrip(_WORDY))
        if "\n" in page:
            start = max(start, page.rfind("\n") + 1)
        if start:
            page = page[start:]
            self.words = self.characters = 0
        self.words += page.count(" ")
        self.characters += len(page)

    def value(self) -> float:
        """Words in the row."""
        return float(self.words)

    def pages(self) -> int:
        """Pages that the row covers, rounded up."""
        return -(-self.characters // self._size)
