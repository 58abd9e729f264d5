"""The text detectors of one channel, fed in blocks whose borders do not depend on chunks."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable

from guard.detect.blank import BlankRun
from guard.detect.garble import GarbleScan, GarbleWindow
from guard.detect.rare import RareScan, ScriptWindow
from guard.detect.repetition import Repetition
from guard.detect.window import BlockSum
from guard.detect.words import WordScan, WordWindow
from guard.types import SignalRef, Window

#: Characters the detectors take at a time. Unit: characters.
BLOCK = 16
#: Blocks whose token position is remembered, enough for the longest period.
_MARKS = 144
#: Window of `word_recurrence` when the policy gives none. Unit: characters.
_WORDS = 240


def blocks_in(window: Window | None) -> int | None:
    """Blocks that make up a window, rounded up; None for the whole text."""
    return None if window is None else max(1, -(-window.size // BLOCK))


class TextChannel:
    """
    What one channel's text shows.

    Args:
        refs: Text signals asked for; only what they need is computed.
    """

    def __init__(self, refs: tuple[SignalRef, ...]) -> None:
        self._pending = ""
        self._size = 0
        self._ends: deque[int] = deque(maxlen=_MARKS)
        self._tokens: deque[int] = deque(maxlen=_MARKS)
        self._repetition: Repetition | None = None
        self._loop_onset = self._loop_start = 0
        self._blank: BlankRun | None = None
        self._rare: RareScan | None = None
        self._garble: GarbleScan | None = None
        self._words: WordScan | None = None
        self._rare_sums: list[BlockSum] = []
        self._scripts: list[ScriptWindow] = []
        self._garbles: list[GarbleWindow] = []
        self._recurrences: list[WordWindow] = []
        pairs = [self._build(ref) for ref in refs]
        #: Reading of each signal, in the order of `refs`.
        self.readers: tuple[Callable[[], float], ...] = tuple(pair[0] for pair in pairs)
        #: Token at which what the signal shows began, in the order of `refs`.
        self.onsets: tuple[Callable[[], int], ...] = tuple(pair[1] for pair in pairs)

    def _build(self, ref: SignalRef) -> tuple[Callable[[], float], Callable[[], int]]:
        blocks = blocks_in(ref.window)
        if ref.name.startswith("repetition_"):
            loop = self._repetition = self._repetition or Repetition()
            reader = {
                "repetition_count": lambda: loop.count,
                "repetition_characters": lambda: float(loop.characters),
                "repetition_tokens": self._loop_tokens,
                "repetition_letters": lambda: loop.letters,
            }[ref.name]
            return reader, lambda: self._loop_onset
        if ref.name == "blank_lines":
            blank = self._blank = self._blank or BlankRun()
            return lambda: float(blank.lines), lambda: self._token_at(self._size - blank.characters)
        if ref.name == "rare_characters":
            self._rare = self._rare or RareScan()
            total = BlockSum(blocks)
            self._rare_sums.append(total)
            return (
                lambda: min(1.0, total.total / (total.blocks * BLOCK)),
                lambda: self._blocks_back(total.onset()),
            )
        if ref.name == "script_salad":
            self._rare = self._rare or RareScan()
            scripts = ScriptWindow(blocks, BLOCK)
            self._scripts.append(scripts)
            return scripts.value, lambda: self._blocks_back(scripts.onset())
        if ref.name == "garble":
            self._garble = self._garble or GarbleScan()
            garble = GarbleWindow(blocks, BLOCK)
            self._garbles.append(garble)
            return garble.value, lambda: self._blocks_back(garble.joints.onset())
        if ref.name == "word_recurrence":
            self._words = self._words or WordScan()
            size = blocks or -(-_WORDS // BLOCK)
            words = WordWindow(size)
            self._recurrences.append(words)
            return words.value, lambda: self._blocks_back(size)
        raise KeyError(ref.name)

    def feed(self, text: str, before: int, after: int) -> bool:
        """
        Take in the next text.

        Args:
            text: Any text, cut anywhere.
            before: Tokens of the choice up to it.
            after: Tokens of the choice up to and including it; in between they are spread evenly.

        Returns:
            True when a block was completed, so that readings may have changed.
        """
        carried = len(self._pending)
        pending = self._pending + text
        size, start = len(pending), BLOCK
        if size < BLOCK:
            self._pending = pending
            return False
        added, length = after - before, len(text)
        while start <= size:
            self._block(pending[start - BLOCK : start], before + added * (start - carried) // length)
            start += BLOCK
        self._pending = pending[start - BLOCK :]
        return True

    def _block(self, block: str, tokens: int) -> None:
        self._size += BLOCK
        self._ends.append(self._size)
        self._tokens.append(tokens)
        if self._repetition is not None:
            self._follow(self._repetition, block)
        if self._blank is not None:
            self._blank.feed(block)
        if self._rare is not None:
            rare = self._rare
            rare.feed(block)
            for total in self._rare_sums:
                total.add(rare.rare)
            for scripts in self._scripts:
                scripts.add(rare)
        if self._garble is not None:
            self._garble.feed(block)
            for garble in self._garbles:
                garble.joints.add(self._garble.joints)
        if self._words is not None:
            self._words.feed(block)
            for recurrence in self._recurrences:
                recurrence.add(self._words.words)

    def _follow(self, loop: Repetition, block: str) -> None:
        before, covered = loop.period, loop.characters
        loop.feed(block)
        if loop.period and not (before == loop.period and loop.characters > covered):
            start = self._size - loop.characters
            self._loop_start = self._token_at(start)
            # The first instance is the text's own; the fault begins with the second.
            self._loop_onset = self._token_at(start + loop.period)

    def _loop_tokens(self) -> float:
        if self._repetition is None or not self._repetition.period or not self._tokens:
            return 0.0
        return float(self._tokens[-1] - self._loop_start)

    def _token_at(self, position: int) -> int:
        """Token of the choice at a character position, the earlier one where a block holds several."""
        index = bisect_right(self._ends, position) - 1
        return self._tokens[index] if index >= 0 else 0

    def _blocks_back(self, blocks: int) -> int:
        return self._token_at(self._size - blocks * BLOCK)

    def why(self, ref: SignalRef, value: float) -> str:
        """One clause a person can read on what this signal shows here."""
        name = ref.name
        loop = self._repetition
        if name.startswith("repetition_") and loop is not None:
            return f"a passage of {loop.period} characters repeats {loop.count:.0f} times"
        if name == "blank_lines":
            return f"{value:.0f} line ends follow each other"
        if name == "rare_characters":
            return f"{value:.0%} of characters are replacement, private-use, unassigned or control"
        if name == "script_salad":
            names = sorted({script for window in self._scripts for script in window.names()})
            return f"letters of {len(names)} unrelated scripts glued together ({', '.join(names[:6]).lower()})"
        if name == "garble":
            return f"{value:.2f} broken joints a word above the text before"
        if name == "word_recurrence":
            return f"{value:.0%} of words come back within the window"
        return f"{ref} is {value:.3g}"
