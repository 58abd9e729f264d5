"""The detectors that look at a window of text, a page at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from guard.detect.cycle import WordCycle
from guard.detect.familiar import FamiliarScan, FamiliarWindow
from guard.detect.garble import GarbleScan, GarbleWindow
from guard.detect.items import ItemRun
from guard.detect.nesting import levels
from guard.detect.numerals import alike
from guard.detect.parts import Parts
from guard.detect.plain import PlainRun
from guard.detect.prompt import Prompt
from guard.detect.rare import RESTING, CharacterScan, NamesWindow, ScriptWindow
from guard.detect.repetition import MAX_ROUND, Repetition, round_of
from guard.detect.texture import Texture
from guard.detect.window import BlockSum
from guard.detect.words import WordScan, WordWindow

#: Window of signals that need one, when the policy gives none. Unit: characters.
_USUAL: Final = 240
#: Share of familiar words that is not worth asking the prompt about.
_LITTLE: Final = 0.3
#: Share of new words above which nobody asks how long a round is.
_HARDLY: Final = 0.1
#: Share of new words below which the text may soon say nothing new.
_STALE: Final = 0.2
#: Words in a row without a mark that are worth asking the prompt about.
_MANY_WORDS: Final = 24
#: Numbers in a row up to which it does not matter what they are of, and how much more those of items count in which
#: nothing stands: no seats, wheels and calendars are written so.
_MANY_NUMBERS: Final = 24
_BARE: Final = 4 / 3
_BARE_ITEMS: Final = re.compile(r"(?:\s[0-9]{1,4}[.)](?=\s)){8}")


class _Unless:
    """A reading, or 0 where the prompt asks for what it shows; a stream has a dozen, so it is kept small."""

    __slots__ = ("_asked", "_least", "_prompt", "_value")

    def __init__(self, value: Callable[[], float], prompt: Prompt, asked: str, least: float = 0.0) -> None:
        self._value = value
        self._prompt = prompt
        self._asked = asked
        self._least = least

    def __call__(self) -> float:
        value = self._value()
        return 0.0 if value > self._least and getattr(self._prompt, self._asked) else value


class _UnlessAgain:
    """Words of a cycle, or 0 where the prompt asks for as many rounds or holds the passage itself."""

    __slots__ = ("_cycle", "_prompt")

    def __init__(self, cycle: WordCycle, prompt: Prompt) -> None:
        self._cycle = cycle
        self._prompt = prompt

    def __call__(self) -> float:
        cycle, prompt = self._cycle, self._prompt
        value = cycle.value()
        if not value or not prompt.refrain:
            return value
        said = [token for token in cycle.latest if token[0].isalnum()]
        return 0.0 if cycle.rounds() <= prompt.rounds or prompt.says(said) else value


class _Stutter:
    """Stutter in the latest pages of a window."""

    __slots__ = ("_pages", "_window")

    def __init__(self, window: WordWindow, pages: int) -> None:
        self._window = window
        self._pages = pages

    def __call__(self) -> float:
        return self._window.stutter(self._pages)


class _Share:
    """A count per character of a window."""

    __slots__ = ("_size", "_total")

    def __init__(self, total: BlockSum, size: int) -> None:
        self._total = total
        self._size = size

    def __call__(self) -> float:
        return min(1.0, self._total.total / (self._total.blocks * self._size))


class Pages:
    """
    Scans and windows, each made only when a signal needs it.

    Args:
        prompt: What the user wrote.
        size: Characters in a page.
        loop: Knows the latest text; None where nobody does.
    """

    __slots__ = (
        "_characters", "_familiar", "_familiars", "_garble", "_garbles", "_item_pages", "_items", "_longest", "_loop",
        "_names", "_odd_sums", "_plain", "_prompt", "_rare_sums", "_recurrences", "_scripts", "_size", "_texture",
        "_wanted", "_words",
    )  # fmt: skip

    def __init__(self, prompt: Prompt, size: int, loop: Repetition | None = None) -> None:
        self._prompt = prompt
        self._loop = loop
        self._size = size
        self._characters: CharacterScan | None = None
        self._garble: GarbleScan | None = None
        self._words: WordScan | None = None
        self._familiar: FamiliarScan | None = None
        self._wanted = False
        self._rare_sums: list[BlockSum] = []
        self._odd_sums: list[BlockSum] = []
        self._scripts: list[ScriptWindow] = []
        #: Windows of names, each with the attribute of the scan that it follows.
        self._names: list[tuple[str, NamesWindow]] = []
        self._garbles: dict[int | None, GarbleWindow] = {}
        self._texture: Texture | None = None
        self._plain: PlainRun | None = None
        self._items: ItemRun | None = None
        self._item_pages: Callable[[], int] | None = None
        self._longest = 0
        self._recurrences: dict[int, WordWindow] = {}
        self._familiars: dict[int, FamiliarWindow] = {}

    @property
    def wanted(self) -> bool:
        """True when any signal needs pages."""
        return self._wanted

    @property
    def rests(self) -> bool:
        """Whether the text was plain for so long that all readings of RESTING are 0."""
        return self._characters is not None and self._characters.calm > self._longest

    @property
    def says_new(self) -> bool:
        """Whether the latest text brings words that it had not, wherever that is followed."""
        return all(familiar.fresh_share() >= _STALE for familiar in self._familiars.values())

    def part(self, name: str, pages: int | None) -> Parts:
        """
        One signal over the latest pages.

        Raises:
            KeyError: No such signal.
        """
        # A window over the whole text is never empty again, so it never rests.
        if name in RESTING:
            self._longest = max(self._longest, pages or 1 << 62)
        self._wanted = True
        return _MAKERS[name](self, pages)

    def _usual(self, pages: int | None) -> int:
        return pages or -(-_USUAL // self._size)

    def _unless_random(self, value: Callable[[], float]) -> Callable[[], float]:
        return _Unless(value, self._prompt, "random")

    def _look_at_characters(self) -> None:
        self._characters = self._characters or CharacterScan(self._prompt)

    def _count(self, pages: int | None, sums: list[BlockSum]) -> Parts:
        self._look_at_characters()
        total = BlockSum(pages)
        sums.append(total)
        return Parts(_Share(total, self._size), total.onset)

    def _script_salad(self, pages: int | None) -> Parts:
        self._look_at_characters()
        window = ScriptWindow(pages, self._size)
        self._scripts.append(window)
        return Parts(window.value, window.onset, window.names)

    def _named(self, pages: int | None, attribute: str) -> Parts:
        self._look_at_characters()
        window = NamesWindow(self._usual(pages))
        self._names.append((attribute, window))
        return Parts(window.value, window.onset, window.names)

    def _stray_scripts(self, pages: int | None) -> Parts:
        part = self._named(pages, "strays")
        return Parts(_Unless(part.value, self._prompt, "languages"), part.onset, part.names)

    def _make_garble(self, pages: int | None, share: str) -> Parts:
        self._look_at_characters()
        self._garble = self._garble or GarbleScan()
        window = self._garbles.get(pages)
        if window is None:
            window = self._garbles[pages] = GarbleWindow(pages, self._size)
        return Parts(self._unless_random(getattr(window, share)), window.joints.onset)

    def _side_by_side(self, pages: int | None, share: str) -> Parts:
        self._look_at_characters()
        self._texture = self._texture or Texture(self._size)
        size = self._usual(pages)
        return Parts(getattr(self._texture.window(size), share), size // 2)

    def _orderly(self, pages: int | None, share: str, asked: str = "random") -> Parts:
        part = self._side_by_side(pages, share)
        return Parts(_Unless(part.value, self._prompt, asked), part.onset)

    def _unpunctuated(self, _: int | None) -> Parts:
        self._look_at_characters()
        run = self._plain = self._plain or PlainRun(self._size)
        return Parts(_Unless(run.value, self._prompt, "wordy", _MANY_WORDS), run.pages)

    def _of_items(self, reading: str) -> Parts:
        run = self._items = self._items or ItemRun(self._size, self._prompt)
        # One method for all of them: each made anew is as large as a small object.
        self._item_pages = self._item_pages or run.pages
        return Parts(getattr(run, reading), self._item_pages)

    def _latest(self, value: Callable[[str], int], asked: str) -> Parts:
        """What is worked out from the latest text when it is read, up to the latest page."""
        loop, prompt = self._loop, self._prompt

        def read() -> float:
            found = value(loop.latest) if loop is not None else 0
            return float(found) if found and not getattr(prompt, asked) else 0.0

        return Parts(read, MAX_ROUND // self._size)

    def _say(self, pages: int | None, share: str) -> Parts:
        size = self._usual(pages)
        window = self._word_window(size)
        return Parts(getattr(window, share), size // 2)

    def _stutter(self, pages: int | None) -> Parts:
        size = self._usual(pages)
        # A longer window that is there already holds the latest pages too.
        window = next((one for one in self._recurrences.values() if one.limit >= size), None)
        window = window or self._word_window(size)
        return Parts(_Stutter(window, size), size // 2)

    def _word_window(self, size: int) -> WordWindow:
        self._words = self._words or WordScan()
        window = self._recurrences.get(size)
        if window is None:
            window = self._recurrences[size] = WordWindow(size)
        return window

    def _counting(self, _: int | None) -> Parts:
        scan, loop = self._scan_words(), self._loop

        def counted() -> float:
            value = scan.counted()
            bare = value > _MANY_NUMBERS and loop is not None and _BARE_ITEMS.search(loop.latest[-_USUAL:]) is not None
            return value * _BARE if bare else value

        return Parts(_Unless(counted, self._prompt, "counting"), lambda: -(-3 * scan.run // self._size))

    def _cycle_words(self, _: int | None) -> Parts:
        scan = self._scan_words()
        cycle = scan.cycle = scan.cycle or WordCycle()
        return Parts(_UnlessAgain(cycle, self._prompt), cycle.pages)

    def _familiar_window(self, size: int) -> FamiliarWindow:
        self._scan_words()
        window = self._familiars.get(size)
        if window is None:
            window = self._familiars[size] = FamiliarWindow(size, self._size)
        return window

    def _fresh_words(self, pages: int | None) -> Parts:
        size, loop = self._usual(pages), self._loop
        window = self._familiar_window(size)

        def share() -> float:
            value = window.fresh_share()
            # Each round of what is sung, played or done in rounds brings a word; that may be further back.
            return value if loop is None or value > _HARDLY else window.fresh_share(round_of(loop.latest))

        return Parts(share, size // 2)

    def _familiar_words(self, pages: int | None) -> Parts:
        size = self._usual(pages)
        window, prompt, words = self._familiar_window(size), self._prompt, self._word_window(size)

        def share() -> float:
            value = window.familiar_share()
            if value < _LITTLE:
                return value
            # Each item of a list brings something the text never had; sentences that bring nothing are no list.
            if words.prose(size * self._size):
                asked = prompt.refrain
            else:
                asked = prompt.framed and (window.fresh > 0 or not words.items() or prompt.records)
            return 0.0 if asked or prompt.worked else value

        return Parts(share, size // 2)

    def _scan_words(self) -> FamiliarScan:
        self._look_at_characters()
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
                self._garble.feed(page, scan.tail, scan.shape, scan.joints)
                for garble in self._garbles.values():
                    garble.add(self._garble.joints)
            if self._texture is not None:
                self._texture.add(page, scan.marks, scan.longest)
            if self._plain is not None:
                self._plain.feed(page, scan.shape)
        if self._words is not None:
            self._read(self._words, page)
        if self._items is not None:
            self._items.feed(page)

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
            recurrence.add(scan.tokens, scan.again)
        if self._familiar is not None:
            self._familiar.feed(scan.tokens, self._characters.letters if self._characters is not None else 0)
            for familiar in self._familiars.values():
                familiar.add(self._familiar)


#: How the reading of each signal is made.
_MAKERS: Final[dict[str, Callable[[Pages, int | None], Parts]]] = {
    "rare_characters": lambda self, pages: self._count(pages, self._rare_sums),
    "odd_characters": lambda self, pages: self._count(pages, self._odd_sums),
    "script_salad": Pages._script_salad,
    "glued_scripts": lambda self, pages: self._named(pages, "glued"),
    "odd_kinds": lambda self, pages: self._named(pages, "kinds"),
    "stray_scripts": Pages._stray_scripts,
    "garble": lambda self, pages: self._make_garble(pages, "value"),
    "joints": lambda self, pages: self._make_garble(pages, "density"),
    "symbol_salad": lambda self, pages: self._orderly(pages, "symbol_salad"),
    "figure_salad": lambda self, pages: self._orderly(pages, "figure_salad"),
    "glued_words": lambda self, pages: self._orderly(pages, "glued_words"),
    "special_tokens": lambda self, pages: self._orderly(pages, "special_tokens", "special"),
    "pair_recurrence": lambda self, pages: self._side_by_side(pages, "pair_recurrence"),
    "unpunctuated": Pages._unpunctuated,
    "same_items": lambda self, _: self._of_items("same_items"),
    "renumbered": lambda self, _: self._of_items("renumbered"),
    "same_numbers": lambda self, _: self._of_items("same_numbers"),
    "word_recurrence": lambda self, pages: self._say(pages, "value"),
    "recurrence_fall": lambda self, pages: self._say(pages, "fall"),
    "function_words": lambda self, pages: self._say(pages, "function_words"),
    "stutter": Pages._stutter,
    "word_clash": lambda self, pages: self._say(pages, "clash"),
    "counting": Pages._counting,
    "counted_words": lambda self, _: self._latest(alike, "counting"),
    "nested_again": lambda self, _: self._latest(levels, "nested"),
    "cycle_words": Pages._cycle_words,
    "familiar_words": Pages._familiar_words,
    "fresh_words": Pages._fresh_words,
}
