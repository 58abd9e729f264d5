"""
The words of a text, and how often they come back.

Prose repeats about a third of its words within forty: articles, prepositions, its subject. A random
draw from a vocabulary repeats almost none; a model that has lost its thread repeats most.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from operator import eq
from typing import Final

from guard.detect.grammar import CLASHES, PARTS, PROSE
from guard.detect.languages import function_share
from guard.detect.pages import CLASH, RECUR, SCAN

#: Words with their digits, runs of marks, and line ends.
_TOKEN: Final = re.compile(r"\w+|[^\w\s]+|\n")
#: Longest piece of an unfinished word carried to the next page.
_LONGEST: Final = 48
#: Words in the window before the share says anything.
LEAST_WORDS: Final = 24
#: Words before the share of function words says anything.
_LEAST_SENTENCE: Final = 16
#: Windows from one measurement for `fall` to the next.
_EVERY: Final = 3
#: Function words that a window counts as having at least.
_LEAST_FUNCTIONAL: Final = 12
#: Words that a window counts as having at least, so that a word said twice is no stutter where words are few.
_LEAST_ROW: Final = 12
#: Share of words of sentences from which words are sentences: prose 0.2 and more, code and lists near 0.
_LEAST_PROSE: Final = 0.1
#: Share of characters that are words and a blank after each, and share of words that every sentence needs, from which
#: words without those are sentences too; code that is dense with words reaches neither.
_LEAST_SENTENCES: Final = 0.85
_LEAST_FUNCTION: Final = 0.38
#: Share of words that every sentence needs from which the items of a list are sentences, not names, and marks for each
#: word up to which they are not markup or code.
_LEAST_ITEM: Final = 0.4
_MOST_MARKS: Final = 0.6
#: Times in a row that a name must hold the same part to say itself again; masks such as xx_xx_xx_xx_xx do by right,
#: but so many names, each with more of it than the one before, are no names.
_LEAST_PARTS: Final = 4
_LEAST_GROWN: Final = 3
#: A text whose words hardly ever came back has nothing to fall from: lists of names, languages without spaces.
_LEAST_BEFORE: Final = 0.12


def parts_again(name: str) -> int:
    """Parts of a name in code that are the part before them again, once the same stands there four times in a row."""
    again = run = 0
    last = ""
    for part in name.split("_"):
        if part.isalpha() and part == last:
            run += 1
            continue
        again += run if run >= _LEAST_PARTS - 1 else 0
        run, last = 0, part
    return again + (run if run >= _LEAST_PARTS - 1 else 0)


def parts_grown(row: list[str]) -> int:
    """Parts that are the part before them again in names of which each has more of them than the one before."""
    grown = total = names = before = 0
    for token in row:
        again = parts_again(token) if "_" in token else 0
        if again > before:
            names, total = names + 1, total + again
        elif again:
            names, total = 1, again
        before = again or before
        if names >= _LEAST_GROWN:
            grown = max(grown, total)
    return grown


class WordScan:
    """
    Finds the words completed in each page.

    `tokens` are words, runs of marks and line ends, all in lower case.
    """

    def __init__(self) -> None:
        self.tokens: list[str] = []
        #: Whether one of the page's words is the one before it again.
        self.again = False
        self._open = ""
        self._last = ""

    def feed(self, page: str) -> None:
        """Scan one page."""
        text = self._open + page
        if SCAN is not None:
            self.tokens, left, self._last, self.again = SCAN(text, self._last)
            self._open = left[:_LONGEST]
        else:
            self._feed(text, page)
        if "_" in text and not self.again:
            self.again = any(map(parts_again, self.tokens))

    def _feed(self, text: str, page: str) -> None:
        """What is left of the last page and this one, in Python."""
        tokens = _TOKEN.findall(text.lower())
        last = page[-1]
        self._open = tokens.pop()[:_LONGEST] if tokens and (last.isalnum() or last == "_") else ""
        self.tokens = tokens
        row = [self._last, *tokens]
        if "\n" in tokens:
            row = [word for word in row if word != "\n"]
        self._last = row[-1]
        self.again = any(map(eq, row, row[1:]))


class WordWindow:
    """
    The words of the latest pages: how often they come back, and how they follow one another.

    Digests, identifiers and numbers are no words: only those of nothing but letters count. Counted only
    when it is read: most rules look at words only once something else is wrong.

    Args:
        pages: Pages in the window.
    """

    __slots__ = ("_before", "_calm", "_limit", "_pages", "_sum", "_until", "_windows")

    def __init__(self, pages: int) -> None:
        self._limit = pages
        self._pages: list[list[str]] = []
        #: Latest pages in which no word was the one before it again.
        self._calm = 0
        self._until = 2 * pages
        self._before = -1.0
        self._sum = 0.0
        self._windows = 0

    def add(self, tokens: list[str], again: bool = True) -> None:
        """
        Take in the newest page.

        Args:
            tokens: Its tokens.
            again: False when none of its words is the one before it again.
        """
        self._calm = 0 if again else self._calm + 1
        pages = self._pages
        if len(pages) == self._limit:
            del pages[0]
        pages.append(tokens)
        self._until -= 1
        if not self._until:
            self._note()

    def _note(self) -> None:
        """Every few windows: the share before this one serves as a measure from now on."""
        self._until = _EVERY * len(self._pages)
        if self._before >= 0.0:
            self._sum += self._before
            self._windows += 1
        share = self.value()
        self._before = -1.0 if math.isnan(share) else share

    def value(self) -> float:
        """Share of the window's words that it already had; nan while there are too few words."""
        if RECUR is not None:
            many, different = RECUR(self._pages)
        else:
            words = [token for page in self._pages for token in page if token.isalpha()]
            many, different = len(words), len(set(words))
        return 1.0 - different / many if many >= LEAST_WORDS else math.nan

    def fall(self) -> float:
        """How far the share is below what the text had before, of that; nan while there is no measure."""
        before = self._sum / self._windows if self._windows else self._before
        if before < 0.0:
            return math.nan
        return max(0.0, 1.0 - self.value() / before) if before >= _LEAST_BEFORE else 0.0

    def _row(self, pages: int = 0) -> list[str]:
        return [word for page in self._pages[-pages:] for word in page if word != "\n"]

    @property
    def limit(self) -> int:
        """Pages in the window."""
        return self._limit

    def stutter(self, pages: int) -> float:
        """
        Words that are the word before them again, of all words; so are the parts of names that grow and grow.

        Args:
            pages: How many of the latest pages are looked at.
        """
        if self._calm >= min(pages, len(self._pages)):
            return 0.0
        row = self._row(pages)
        again = sum(first == second and first.isalpha() for first, second in pairwise(row))
        grown = parts_grown(row)
        return min(1.0, (again + grown) / max(sum(map(str.isalpha, row)) + grown, _LEAST_ROW))

    def clash(self) -> float:
        """Function words that cannot follow the word before them, of all function words."""
        if CLASH is not None:
            functional, found = CLASH(self._pages, PARTS, CLASHES)
        else:
            row = self._row()
            functional, found = sum(map(PARTS.__contains__, row)), sum(map(CLASHES.__contains__, pairwise(row)))
        return min(1.0, found / max(functional, _LEAST_FUNCTIONAL))

    def function_words(self) -> float:
        """Function words of one language, of all words of nothing but letters; nan while there are few."""
        words = [token for page in self._pages for token in page if token.isalpha()]
        return function_share(words) if len(words) >= _LEAST_SENTENCE else math.nan

    def items(self) -> bool:
        """True when the words may be those of a list whose items are sentences: not names, not markup, not code."""
        row = self._row()
        words = [token for token in row if token.isalpha()]
        marks = sum([not (token[0].isalnum() or token[0] == "_") for token in row])
        return marks <= _MOST_MARKS * len(words) and self.function_words() >= _LEAST_ITEM

    def prose(self, characters: int) -> bool:
        """
        True when enough of the words are those of sentences for the text to be prose.

        Args:
            characters: How many the window holds.
        """
        row = self._row()
        words = [token for token in row if token.isalpha()]
        if sum(map(PROSE.__contains__, row)) >= _LEAST_PROSE * len(words):
            return True
        # Words and one blank after each, and hardly anything else.
        if sum(map(len, words)) + len(words) < _LEAST_SENTENCES * characters:
            return False
        return function_share(words) >= _LEAST_FUNCTION
