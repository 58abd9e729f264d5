"""Characters healthy text does not hold, and letters of many unrelated scripts thrown together."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from guard.detect.glance import REACH, glance
from guard.detect.pages import SEE
from guard.detect.prompt import Prompt
from guard.detect.scripts import classify
from guard.detect.shape import AT_HOME, ascii_shape, code_of
from guard.detect.window import BlockSum, CountWindow

#: A word with a Latin one before it and after it; a Latin one before it may end a sentence.
_BETWEEN: Final = re.compile(r"[A-Za-z.,;:] {1,2}([^\s\x00-\x7f]+) [\"A-Za-z]")
#: Characters of the page before in which such a word may begin. Unit: characters.
_OVERLAP: Final = 24
_ASCII_LETTER: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NO_SCRIPTS: Final[dict[str, int]] = {}
_NONE: Final[frozenset[str]] = frozenset()
#: Signals whose windows rest while text is plain: their readings are 0 then.
RESTING: Final = ("rare_characters", "odd_characters", "script_salad", "glued_scripts", "odd_kinds", "stray_scripts")
#: More pages than a window has, unless it is the whole text.
_MANY: Final = 1 << 40
#: Switches of script inside words at which a mixture counts in full.
_FULL_SWITCHES: Final = 4.0
#: Scripts that may touch others: symbols, and scripts without spaces in which names and terms stand.
_GLUES: Final = AT_HOME | {"HAN", "HANGUL"}


@lru_cache(maxsize=1024)
def _shared(scripts: frozenset[str]) -> frozenset[str]:
    """One object for equal sets: a window holds dozens of them."""
    return scripts


#: What a character looks like: script, kind of odd signs, whether rare, whether of a script that may be out of place.
Sight = tuple[str, str, bool, bool]
_NOTHING: Final[Sight] = ("", "", False, False)
#: All that were met; Unicode has 167. Their numbers begin with 1, and a byte holds them.
_SIGHTS: Final[list[Sight]] = [_NOTHING, _NOTHING]
_NUMBERS: Final[dict[Sight, int]] = {_NOTHING: 1}
_MOST_SIGHTS: Final = 256


@lru_cache(maxsize=8192)
def sight_of(character: str) -> int:
    """Number of what a character looks like, 1 to 255."""
    script, rare, odd = classify(character)
    sight = (script, odd, rare, bool(script) and script not in AT_HOME)
    number = _NUMBERS.get(sight)
    if number is None:
        if len(_SIGHTS) >= _MOST_SIGHTS:
            return _NUMBERS[_NOTHING]
        number = _NUMBERS[sight] = len(_SIGHTS)
        _SIGHTS.append(sight)
    return number


def learn(character: str) -> int:
    """Class of a character (guard.detect.shape) << 8 | number of what it looks like."""
    return code_of(character) << 8 | sight_of(character)


def see(page: str) -> tuple[bytes, bytes]:
    """Class of each character (guard.detect.shape), and number of what it looks like."""
    if SEE is not None:
        return SEE(page, learn)
    return bytes(map(code_of, page)), bytes(map(sight_of, page))


class CharacterScan:
    """
    Looks at each character once; what it found stands in the attributes until the next page.

    Args:
        prompt: Scripts and rare characters it holds are at home in the answer too.
    """

    def __init__(self, prompt: Prompt) -> None:
        #: Classes of the page, and of the end of the page before.
        self.shape = self.tail = b""
        #: See guard.detect.glance.
        self.marks = self.letters = self.longest = self.joints = 0
        self.rare = 0
        self.odd = 0
        self.switches = 0
        self.scripts = _NO_SCRIPTS
        self.glued = _NONE
        #: Kinds of odd signs, and scripts of single words that stand between words of Latin letters.
        self.kinds = self.strays = _NONE
        #: Pages in a row in which nothing of all this was found. Windows are empty at first: they may rest.
        self.calm = _MANY
        self._prompt = prompt
        self._last = ""
        self._tail = ""

    def feed(self, page: str) -> None:
        """Scan one page."""
        tail, self._tail = self._tail, page[-_OVERLAP:]
        self.tail, plain, sights = self.shape[-REACH:], page.isascii(), b""
        if plain:
            self.shape = ascii_shape(page)
        else:
            self.shape, sights = see(page)
        self.marks, self.letters, self.longest, self.joints, rare = glance(self.tail, self.shape)
        if plain:
            self.rare = rare
            self.odd = self.switches = 0
            self.scripts = _NO_SCRIPTS
            self.glued = self.kinds = self.strays = _NONE
            self.calm = 0 if self.rare else self.calm + 1
            # Looked at only when the next page begins with a letter of another script.
            self._last = "LATIN" if page[-1] in _ASCII_LETTER else ""
            return
        self.calm = 0
        self._look(page, sights)
        self.strays = self._stray(tail + page) if self.scripts else _NONE

    def _look(self, page: str, sights: bytes) -> None:
        home, allowed = self._prompt.scripts, self._prompt.rare
        rare = odd = switches = row = 0
        kinds: set[str] = set()
        scripts: dict[str, int] = {}
        glued: set[str] = set()
        last, before = self._last, -1
        odd_kind, is_rare, foreign = "", False, False
        for place in range(len(sights)):
            sight = sights[place]
            if sight != before:
                before = sight
                script, odd_kind, is_rare, foreign = _SIGHTS[sight]
                if script != last:
                    if script and last:
                        switches += 1
                        glued.add(script)
                        glued.add(last)
                    if row and last not in home:
                        scripts[last] = scripts.get(last, 0) + row
                    last, row = script, 0
            if (is_rare or odd_kind) and page[place] not in allowed:
                rare += is_rare
                if odd_kind:
                    odd += 1
                    kinds.add(odd_kind)
            row += foreign
        if row and last not in home:
            scripts[last] = scripts.get(last, 0) + row
        self.odd = odd
        self.rare, self.switches, self.scripts, self._last = rare, switches, scripts, last
        self.glued = _shared(frozenset(glued - _GLUES - home)) if glued else _NONE
        self.kinds = _shared(frozenset(kinds)) if kinds else _NONE

    def _stray(self, text: str) -> frozenset[str]:
        """Scripts of the words that stand alone between Latin ones, unquoted and without explanation."""
        found = {classify(word[0]).script for word in _BETWEEN.findall(text)}
        return _shared(frozenset(found - AT_HOME - self._prompt.scripts - {""}))


class ScriptWindow:
    """
    Scripts in the latest pages.

    Args:
        pages: Pages in the window; None for the whole text.
        size: Characters in a page.
    """

    def __init__(self, pages: int | None, size: int) -> None:
        self._size = size
        self._limit = pages
        self._seen: list[dict[str, int]] = []
        self._letters: dict[str, int] = {}
        self._switches = BlockSum(pages)

    def add(self, scan: CharacterScan) -> None:
        """Take in what the scan found in the newest page."""
        self._switches.add(scan.switches)
        for script, letters in scan.scripts.items():
            self._letters[script] = self._letters.get(script, 0) + letters
        if self._limit is None:
            return
        self._seen.append(scan.scripts)
        if len(self._seen) > self._limit:
            for script, letters in self._seen.pop(0).items():
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
        """Pages back from the end at which the mixture began."""
        return self._switches.onset()

    def names(self) -> list[str]:
        """Scripts in the window other than Latin and Greek."""
        return sorted(self._letters)


class NamesWindow:
    """
    Names of scripts or of kinds of signs found in the latest pages.

    Args:
        pages: Pages in the window.
    """

    def __init__(self, pages: int) -> None:
        self._limit = pages
        self._seen: list[frozenset[str]] = []
        self._names = CountWindow()

    def add(self, names: frozenset[str]) -> None:
        """Take in the newest page's."""
        self._seen.append(names)
        if names:
            self._names.put(names)
        if len(self._seen) > self._limit:
            gone = self._seen.pop(0)
            if gone:
                self._names.take(gone)

    def value(self) -> float:
        """How many different ones."""
        return float(len(self._names.counts))

    def onset(self) -> int:
        """Pages back from the end to the first of them."""
        for index, names in enumerate(self._seen):
            if names:
                return len(self._seen) - index
        return 0

    def names(self) -> list[str]:
        """The names."""
        return sorted(self._names.counts)
