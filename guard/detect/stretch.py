"""The detectors that look at a window of text, a page at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from guard.detect.familiar import FamiliarScan, FamiliarWindow
from guard.detect.garble import GarbleScan, GarbleWindow
from guard.detect.plain import PlainRun
from guard.detect.prompt import Prompt
from guard.detect.rare import CharacterScan, NamesWindow, ScriptWindow
from guard.detect.texture import TextureWindow
from guard.detect.window import BlockSum
from guard.detect.words import WordScan, WordWindow

#: Window of signals that need one, when the policy gives none. Unit: characters.
_USUAL = 240
_NOT_LETTERS = b"0 cbqonszR"
#: Share of familiar words that is not worth asking the prompt about.
_LITTLE = 0.3
#: Words in a row without a mark that are worth asking the prompt about.
_MANY_WORDS = 24
#: Signals whose windows rest while text is plain.
_RESTING = ("rare_characters", "odd_characters", "script_salad", "glued_scripts", "odd_kinds", "stray_scripts")
#: Classes of characters that are no marks.
_NOT_MARKS = b"aA0 lzXR"
_WHY = {
    "garble": "{value:.2f} broken joints a word above the text before",
    "joints": "{value:.2f} broken joints a word",
    "word_recurrence": "{value:.0%} of words come back within the window",
    "recurrence_fall": "words come back {value:.0%} less than before",
    "rare_characters": "{value:.0%} of characters are replacement, private-use, unassigned or control",
    "odd_characters": "{value:.0%} of characters are styled letters of mathematics or dingbats",
    "symbol_salad": "{value:.2f} different pairs of marks per character",
    "familiar_words": "{value:.0%} of the words stand in phrases said twice before",
    "fresh_words": "{value:.0%} of the words are new",
    "stutter": "{value:.0%} of the words are the one before again",
    "word_clash": "{value:.0%} of function words cannot follow the word before",
    "function_words": "{value:.0%} of the words are those that sentences need",
    "unpunctuated": "{value:.0f} words follow each other without a mark",
    "figure_salad": "figures and marks without a line end, {value:.0%} of them as before",
    "pair_recurrence": "{value:.1%} of the pairs of ideographs come again",
    "special_tokens": "{value:.0f} special tokens stand written out",
    "glued_words": "{value:.0%} of characters are words glued together",
    "counting": "{value:.0f} numbers in a row count up by one",
}
_NAMED = {
    "odd_kinds": "{count} unrelated kinds of signs",
    "stray_scripts": "single words of {count} scripts that nobody asked for",
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
        #: Windows of names, each with the attribute of the scan that it follows.
        self._names: list[tuple[str, NamesWindow]] = []
        self._garbles: dict[int | None, GarbleWindow] = {}
        self._textures: dict[int, TextureWindow] = {}
        self._plain: PlainRun | None = None
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

    def _named(self, pages: int | None, attribute: str, *, words: bool = False) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        window = NamesWindow(self._usual(pages))
        self._names.append((attribute, window))
        prompt = self._prompt
        value = window.value
        if words:
            return Parts(lambda: 0.0 if value() and prompt.languages else value(), window.onset, window.names)
        return Parts(value, window.onset, window.names)

    def _make_garble(self, pages: int | None, share: Callable[[GarbleWindow], float]) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        self._garble = self._garble or GarbleScan()
        window = self._garbles.setdefault(pages, GarbleWindow(pages, self._size))
        return Parts(self._unless_random(lambda: share(window)), window.joints.onset)

    def _texture(self, pages: int | None, share: Callable[[TextureWindow], float], *, plain: bool = False) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        size = self._usual(pages)
        window = self._textures.setdefault(size, TextureWindow(size, self._size))
        value = (lambda: share(window)) if plain else self._unless_random(lambda: share(window))
        return Parts(value, lambda: size // 2)

    def _special_tokens(self, pages: int | None) -> Parts:
        prompt = self._prompt
        part = self._texture(pages, TextureWindow.special_tokens, plain=True)
        return part._replace(value=lambda: 0.0 if part.value() and prompt.special else part.value())

    def _unpunctuated(self, _: int | None) -> Parts:
        self._characters = self._characters or CharacterScan(self._prompt)
        run = self._plain = self._plain or PlainRun()
        prompt = self._prompt
        return Parts(
            lambda: float(run.words) if run.words < _MANY_WORDS or not prompt.wordy else 0.0,
            lambda: -(-run.characters // self._size),
        )

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
                for garble in self._garbles.values():
                    garble.add(self._garble.joints)
            if self._textures:
                marks = len(scan.shape.translate(None, _NOT_MARKS))
                for texture in self._textures.values():
                    texture.add(page, marks)
            if self._plain is not None:
                self._plain.feed(page, scan.shape)
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
        for attribute, window in self._names:
            window.add(getattr(scan, attribute))

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
            what = _NAMED.get(name, "letters of {count} unrelated scripts glued together")
            return f"{what.format(count=len(names))} ({', '.join(names[:6]).lower()})"
        return _WHY[name].format(value=value) if name in _WHY else ""


_MAKERS: dict[str, Callable[[Pages, int | None], Parts]] = {
    "rare_characters": Pages._rare,
    "odd_characters": Pages._odd,
    "script_salad": Pages._script_salad,
    "glued_scripts": lambda self, pages: self._named(pages, "glued"),
    "odd_kinds": lambda self, pages: self._named(pages, "kinds"),
    "stray_scripts": lambda self, pages: self._named(pages, "strays", words=True),
    "garble": lambda self, pages: self._make_garble(pages, GarbleWindow.value),
    "joints": lambda self, pages: self._make_garble(pages, GarbleWindow.density),
    "symbol_salad": lambda self, pages: self._texture(pages, TextureWindow.symbol_salad),
    "figure_salad": lambda self, pages: self._texture(pages, TextureWindow.figure_salad),
    "special_tokens": Pages._special_tokens,
    "pair_recurrence": lambda self, pages: self._texture(pages, TextureWindow.pair_recurrence, plain=True),
    "glued_words": lambda self, pages: self._texture(pages, TextureWindow.glued_words),
    "unpunctuated": Pages._unpunctuated,
    "function_words": lambda self, pages: self._order(pages, WordWindow.function_words),
    "word_recurrence": Pages._recurrence,
    "recurrence_fall": Pages._recurrence_fall,
    "counting": Pages._counting,
    "familiar_words": Pages._familiar_words,
    "fresh_words": lambda self, pages: self._say(pages, FamiliarWindow.fresh_share),
    "stutter": lambda self, pages: self._order(pages, WordWindow.stutter),
    "word_clash": lambda self, pages: self._order(pages, WordWindow.clash),
}
