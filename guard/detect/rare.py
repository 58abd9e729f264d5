"""Characters healthy text does not hold, and letters of many unrelated scripts thrown together."""

from __future__ import annotations

import re
from collections import deque

from guard.detect.scripts import classify
from guard.detect.window import BlockSum

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ASCII_LETTER = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NO_SCRIPTS: dict[str, int] = {}
#: Scripts that stand between Latin letters in ordinary text: symbols of mathematics and units.
_AT_HOME = frozenset({"LATIN", "GREEK"})
#: Switches of script inside words at which a mixture counts in full.
_FULL_SWITCHES = 4.0


class RareScan:
    """Looks at each character once; what it found stands in the attributes until the next block."""

    def __init__(self) -> None:
        self.rare = 0
        self.switches = 0
        self.scripts = _NO_SCRIPTS
        self._last = ""

    def feed(self, block: str) -> None:
        """Scan one block."""
        if block.isascii():
            self.rare = 0 if block.isprintable() else len(_CONTROL.findall(block))
            self.switches = 0
            self.scripts = _NO_SCRIPTS
            # Looked at only when the next block begins with a letter of another script.
            self._last = "LATIN" if block[-1] in _ASCII_LETTER else ""
            return
        rare = switches = 0
        scripts: dict[str, int] = {}
        last = self._last
        for character in block:
            if character in _ASCII_LETTER:
                script = "LATIN"
            else:
                script, is_rare = classify(character)
                rare += is_rare
                if script and script not in _AT_HOME:
                    scripts[script] = scripts.get(script, 0) + 1
            switches += bool(script and last and script != last)
            last = script
        self.rare, self.switches, self.scripts, self._last = rare, switches, scripts, last


class ScriptWindow:
    """
    Scripts in the latest blocks.

    Args:
        blocks: Blocks in the window; None for the whole text.
        size: Characters in a block.
    """

    def __init__(self, blocks: int | None, size: int) -> None:
        self._size = size
        self._blocks = blocks
        self._seen: deque[dict[str, int]] = deque()
        self._letters: dict[str, int] = {}
        self._switches = BlockSum(blocks)

    def add(self, scan: RareScan) -> None:
        """Take in what the scan found in the newest block."""
        self._switches.add(scan.switches)
        for script, letters in scan.scripts.items():
            self._letters[script] = self._letters.get(script, 0) + letters
        if self._blocks is None:
            return
        self._seen.append(scan.scripts)
        if len(self._seen) > self._blocks:
            for script, letters in self._seen.popleft().items():
                self._letters[script] -= letters
                if not self._letters[script]:
                    del self._letters[script]

    def value(self) -> float:
        """Share of characters outside Latin, Greek and the one largest other script, if glued together."""
        letters = self._letters
        if len(letters) < 2:
            return 0.0
        outside = sum(letters.values()) - max(letters.values())
        share = min(1.0, outside / (self._switches.blocks * self._size))
        return share * min(1.0, self._switches.total / _FULL_SWITCHES)

    def onset(self) -> int:
        """Blocks back from the end at which the mixture began."""
        return self._switches.onset()

    def names(self) -> list[str]:
        """Scripts in the window other than Latin and Greek."""
        return sorted(self._letters)
