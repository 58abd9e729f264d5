"""The detectors that look at a window of text, a page at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from guard.detect.familiar import FamiliarScan, FamiliarWindow
from guard.detect.garble import GarbleScan, GarbleWindow
from guard.detect.prompt import Prompt
from guard.detect.rare import CharacterScan, GluedWindow, ScriptWindow
from guard.detect.symbols import SymbolWindow
from guard.detect.window import BlockSum
from guard.detect.words import WordScan, WordWindow

#: Window of signals that need one, when the policy gives none. Unit: characters.
_USUAL = 240
_NOT_LETTERS = b"0 cbqonsR"
#: Share of familiar words that is not worth asking the prompt about.
_LITTLE = 0.3
#: Signals whose windows rest while text is plain.
_RESTING = ("rare_characters", "odd_characters", "script_salad", "glued_scripts")
#: Classes of characters that are no marks.
_NOT_MARKS = b"aA0 lXR"
_WHY = {
    "garble": "{value:.2f} broken joints a word above the text before",
    "word_recurrence": "{value:.0%} of words come back within the window",
    "recurrence_fall": "words come back {value:.0%} less than before",
    "rare_characters": "{value:.0%} of characters are replacement, private-use, unassigned or control",
    "odd_characters": "{value:.0%} of characters are styled letters of mathematics or dingbats",
    "symbol_salad": "{value:.2f} different pairs of marks per character",
    "familiar_words": "{value:.0%} of the words stand in phrases said twice before",
    "fresh_words": "{value:.0%} of the words are new",
    "stutter": "{value:.0%} of the words are the one before again",
    "word_clash": "{value:.0%} of function words cannot follow the word before",
    "counting": "{value:.0f} numbers in a row count up by one",
}


class Parts(NamedTuple):
    """
    One signal over one window.

    Args:
        value: Its reading.
        onset: Pages back from the end at which what it shows began.
        names: Scripts it saw, for the reason.
    """

    value: Callable[[], float]
    onset: Callable[[], int]
    names: Callable[[], list[str]] | None = None


class Pages:
    """
    Scans and windows, each made only when a signal needs it.

    Args:
        prompt: What the user wrote.
        size: Characters in a page.
    """

    def __init__(self, prompt: Prompt, size: int) -> None:
        self._prompt = prompt
        self._size = size
        self._characters: CharacterScan | None = None
        self._garble: GarbleScan | None = None
        self._words: WordScan | None = None
        self._familiar: FamiliarScan | None = None
        self._parts: dict[tuple[str, int | None], Parts] = {}
        self._rare_sums: list[BlockSum] = []
        self._odd_sums: list[BlockSum] = []
        self._scripts: list[ScriptWindow] = []
        self._glued: list[GluedWindow] = []
        self._garbles: list[GarbleWindow] = []
        self._symbol_windows: dict[int, SymbolWindow] = {}
        self._longest = 0
        self._recurrences: dict[int, WordWindow] = {}
        self._familiars: dict[int, FamiliarWindow] = {}

    @property
    def wanted(self) -> bool:
        """True when any signal needs pages."""
        return bool(self._parts)

    def part(self, name: str, pages: int | None) -> Parts:
        """
        One signal over the latest pages.

        Raises:
            KeyError: No such signal.
        """
        # A window over the whole text is never empty again, so it never rests.
        if name in _RESTING:
            self._longest = max(self._longest, pages or 1 << 62)
        part = self._parts[name, pages] = _MAKERS[name](self, pages)
        return part

    def onset(self, name: str, pages: int | None) -> int:
        """Pages back from the end at which what a signal shows began."""
        return self._parts[name, pages].onset()

    def _usual(self, pages: int | None) -> int:
        return pages or -(-_USUAL // self._size)

    def _unless_random(self, value: Callable[[], float]) -> Callable[[], float]:
        """The reading, or 0 when the prompt asks for text without sense."""
        prompt = self._prompt

        def reading() -> float:
            now = value()
            return 0.0 if now > 0.0 and prompt.random else now

        return reading

    def _rare(self, pages: int | None) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        total = BlockSum(pages)
        self._rare_sums.append(total)
        return Parts(lambda: min(1.0, total.total / (total.blocks * self._size)), total.onset)

    def _odd(self, pages: int | None) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        total = BlockSum(pages)
        self._odd_sums.append(total)
        return Parts(lambda: min(1.0, total.total / (total.blocks * self._size)), total.onset)

    def _script_salad(self, pages: int | None) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        window = ScriptWindow(pages, self._size)
        self._scripts.append(window)
        return Parts(window.value, window.onset, window.names)

    def _glued_scripts(self, pages: int | None) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        window = GluedWindow(self._usual(pages))
        self._glued.append(window)
        return Parts(window.value, window.onset, window.names)

    def _make_garble(self, pages: int | None) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        self._garble = self._garble or GarbleScan()
        window = GarbleWindow(pages, self._size)
        self._garbles.append(window)
        return Parts(self._unless_random(window.value), window.joints.onset)

    def _symbol_salad(self, pages: int | None) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        size = self._usual(pages)
        window = self._symbol_windows.setdefault(size, SymbolWindow(size, self._size))
        return Parts(self._unless_random(window.value), lambda: size // 2)

    def _recurrence(self, pages: int | None) -> Parts:
        size = self._usual(pages)
        window = self._word_window(size)
        return Parts(window.value, lambda: size // 2)

    def _recurrence_fall(self, pages: int | None) -> Parts:
        size = self._usual(pages)
        window = self._word_window(size)
        return Parts(window.fall, lambda: size // 2)

    def _word_window(self, size: int) -> WordWindow:
        self._words = self._words or WordScan()
        return self._recurrences.setdefault(size, WordWindow(size))

    def _counting(self, pages: int | None) -> Parts:
        scan = self._scan_words()
        prompt = self._prompt
        return Parts(
            lambda: float(scan.run) if scan.run and not prompt.counting else 0.0,
            lambda: -(-3 * scan.run // self._size),
        )

    def _say(self, pages: int | None, share: Callable[[FamiliarWindow], float]) -> Parts:
        self._scan_words()
        size = self._usual(pages)
        window = self._familiars.setdefault(size, FamiliarWindow(size, self._size))
        return Parts(lambda: share(window), lambda: size // 2)

    def _familiar_words(self, pages: int | None) -> Parts:
        prompt, words = self._prompt, self._word_window(self._usual(pages))

        def share(window: FamiliarWindow) -> float:
            value = window.familiar_share()
            if value < _LITTLE:
                return value
            expected = prompt.refrain if words.prose() else prompt.framed
            return 0.0 if expected else value

        return self._say(pages, share)

    def _order(self, pages: int | None, share: Callable[[WordWindow], float]) -> Parts:
        size = self._usual(pages)
        window = self._word_window(size)
        return Parts(lambda: share(window), lambda: size // 2)

    def _scan_words(self) -> FamiliarScan:
        self._characters = self._characters or CharacterScan(self._prompt)
        self._words = self._words or WordScan()
        self._familiar = self._familiar or FamiliarScan()
        return self._familiar

    def feed(self, page: str) -> None:
        """Take in the next page."""
        scan = self._characters
        if scan is not None:
            scan.feed(page)
            if scan.calm <= self._longest:
                self._look(scan)
            if self._garble is not None:
                self._garble.feed(page, scan.shape)
                for garble in self._garbles:
                    garble.joints.add(self._garble.joints)
            if self._symbol_windows:
                marks = len(scan.shape.translate(None, _NOT_MARKS))
                for symbols in self._symbol_windows.values():
                    symbols.add(page, marks)
        if self._words is not None:
            self._read(self._words, page)

    def _look(self, scan: CharacterScan) -> None:
        """Rare characters and scripts; once their windows are empty, plain pages need not be added."""
        for total in self._rare_sums:
            total.add(scan.rare)
        for total in self._odd_sums:
            total.add(scan.odd)
        for scripts in self._scripts:
            scripts.add(scan)
        for glued in self._glued:
            glued.add(scan.glued)

    def _read(self, scan: WordScan, page: str) -> None:
        scan.feed(page)
        for recurrence in self._recurrences.values():
            recurrence.add(scan.tokens)
        if self._familiar is not None:
            shape = self._characters.shape if self._characters is not None else b""
            self._familiar.feed(scan.tokens, len(shape.translate(None, _NOT_LETTERS)))
            for familiar in self._familiars.values():
                familiar.add(self._familiar)

    def why(self, name: str, pages: int | None, value: float) -> str:
        """One clause a person can read; empty when there is nothing better than the figure."""
        part = self._parts.get((name, pages))
        if part is not None and part.names is not None:
            names = part.names()
            return f"letters of {len(names)} unrelated scripts glued together ({', '.join(names[:6]).lower()})"
        return _WHY[name].format(value=value) if name in _WHY else ""


_MAKERS: dict[str, Callable[[Pages, int | None], Parts]] = {
    "rare_characters": Pages._rare,
    "odd_characters": Pages._odd,
    "script_salad": Pages._script_salad,
    "glued_scripts": Pages._glued_scripts,
    "garble": Pages._make_garble,
    "symbol_salad": Pages._symbol_salad,
    "word_recurrence": Pages._recurrence,
    "recurrence_fall": Pages._recurrence_fall,
    "counting": Pages._counting,
    "familiar_words": Pages._familiar_words,
    "fresh_words": lambda self, pages: self._say(pages, FamiliarWindow.fresh_share),
    "stutter": lambda self, pages: self._order(pages, WordWindow.stutter),
    "word_clash": lambda self, pages: self._order(pages, WordWindow.clash),
}
