"""Floods of line ends: text that has stopped saying anything."""

from __future__ import annotations


class BlankRun:
    """
    Counts the line ends that the text so far ends in, white space between them allowed.

    A file or a poem may have a few in a row; dozens come from a model that has lost its thread.
    """

    def __init__(self) -> None:
        self.lines = 0
        #: Characters the run covers.
        self.characters = 0

    def feed(self, block: str) -> None:
        """Take in the next text. O(len(block))."""
        if not block[-1:].isspace():
            self.lines = self.characters = 0
            return
        tail = block[len(block.rstrip()) :]
        if len(tail) == len(block):
            self.lines += block.count("\n")
            self.characters += len(block)
        else:
            self.lines = tail.count("\n")
            self.characters = len(tail)
