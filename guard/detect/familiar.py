"""
Words that say again what was said before, though not letter by letter.

An exact loop has a period. A model that has lost its thread may also go round with one word changed, with
a counter that climbs, or in an order drawn anew each time. What these have in common is that nothing new
is said: every phrase has stood in the text twice before. A table or a list of made-up names repeats its
frame as well, but each row brings something the text never had; that is told apart by `fresh`.

The memory is a table of pairs of small counters, addressed by hash: one of a pair fills while the other
still holds what was said before, and then takes its place. Two phrases may share a place, which makes one
in a hundred words look familiar that is not.
"""

from __future__ import annotations

from array import array
from itertools import groupby
from typing import Final
from zlib import crc32

from guard.detect.cycle import WordCycle
from guard.detect.pages import SAY
from guard.detect.repetition import MAX_ROUND

#: Places in the table, a power of two.
_SLOTS: Final = 8192
_MASK: Final = _SLOTS - 1
#: Words after which the counters are full; between once and twice as many are remembered.
_MEMORY: Final = 320
#: In each byte of the table, how often a phrase was said of late; above that, how often before.
_LATE: Final = 0b11
_SHIFT: Final = 2
#: Above those, whether a word was said of late, and before: phrases, of which there are more, are not in its way.
_WORD: Final = 0x10
_WORD_BEFORE: Final = 0x20
#: Makes what was said of late what was said before.
_AGE: Final = bytes((byte & _LATE) << _SHIFT | (byte & _WORD) << 1 for byte in range(256))
#: Times a phrase must have been said before; one repeat is what any second draft or refrain has.
_TWICE: Final = 2
#: Words after which a clause counts as ended; nothing longer is compared as a whole.
_LONGEST_CLAUSE: Final = 24
#: Characters a clause must have to be compared as a whole.
_LEAST_CLAUSE: Final = 8
_ENDS: Final = frozenset("\n.!?;|,:\u3002\uff0c\u3001\uff01\uff1f\uff1b")
_DIGITS: Final = "0123456789"
#: Longest number that can be a counter. Unit: digits.
_COUNTER_DIGITS: Final = 9


#: Place of each word met of late, in all streams; a look-up costs a third of the hash.
_PLACES: Final[dict[str, int]] = {}
#: Words remembered so. Unit: words.
_MOST_PLACES: Final = 16384
#: Characters up to which a word is worth it; clauses of scripts without blanks are longer, and never come back.
_SHORT: Final = 24


def _remember(word: str) -> int:
    """Place of a word in the table of any stream."""
    place = crc32(word.encode()) & _MASK
    if len(word) <= _SHORT:
        if len(_PLACES) >= _MOST_PLACES:
            _PLACES.clear()
        _PLACES[word] = place
    return place


class FamiliarScan:
    """
    Reads the words of each page and says how many of them were familiar.

    Clauses are judged when they end, so words are counted in the page in which their clause ends.
    """

    __slots__ = (
        "_clause_familiar", "_clause_size", "_clause_sum", "_clause_words", "_first", "_number", "_said",
        "_second", "_table", "cycle", "familiar", "fresh", "letters", "run", "words",
    )  # fmt: skip

    def __init__(self) -> None:
        self.words = self.letters = self.familiar = self.fresh = 0
        #: Whole numbers in a row, each one more than the last, with no word between them.
        self.run = 0
        #: The words since something new was said; None when nobody reads them.
        self.cycle: WordCycle | None = None
        self._table = bytearray(_SLOTS)
        self._said = 0
        self._first = self._second = 0
        self._number = -1
        self._clause_words = self._clause_familiar = 0
        #: Characters of the clause with a blank behind each word, and their hash.
        self._clause_size = self._clause_sum = 0

    def feed(self, tokens: list[str], letters: int) -> None:
        """
        Take in one page.

        Args:
            tokens: Its tokens, in lower case.
            letters: How many of its characters are letters.
        """
        self.letters = letters
        if SAY is None:
            self._feed(tokens)
        else:
            (
                self._first, self._second, self._number, self.run, self._said,
                self._clause_words, self._clause_familiar, self._clause_size, self._clause_sum,
                self.words, self.familiar, self.fresh,
            ) = SAY(
                self._table, tokens, self._first, self._second, self._number, self.run, self._said,
                self._clause_words, self._clause_familiar, self._clause_size, self._clause_sum,
            )  # fmt: skip
        if self._said >= _MEMORY:
            self._said = 0
            self._table = self._table.translate(_AGE)
        if self.cycle is not None:
            self.cycle.feed(tokens, self.fresh > 0)

    def _feed(self, tokens: list[str]) -> None:
        """All tokens of a page, in Python."""
        self.words = self.familiar = self.fresh = 0
        for wordy, group in groupby(tokens, str.isalpha):
            if wordy:
                self._say(list(group))
                continue
            for token in group:
                if token[0].isalnum() or token[0] == "_":
                    self._mixed(token)
                elif not _ENDS.isdisjoint(token):
                    self._end_clause()

    def counted(self) -> float:
        """Numbers that count up by one in a row."""
        return float(self.run)

    def _say(self, spoken: list[str]) -> None:
        """Count words and the phrases of three they end."""
        table, first, second = self._table, self._first, self._second
        mask, late, shift, twice, place, known = _MASK, _LATE, _SHIFT, _TWICE, _PLACES.get, _WORD
        fresh = familiar = 0
        for token in spoken:
            word = place(token, -1)
            if word < 0:
                word = _remember(token)
            said = table[word]
            if not said & known:
                table[word] = said | known
                if not said & _WORD_BEFORE:
                    fresh += 1
            phrase = (first * 37 + second * 11 + word) & mask
            first, second = second, word
            said = table[phrase]
            if (said & late) + (said >> shift & late) >= twice:
                familiar += 1
            if said & late < twice:
                table[phrase] = said + 1
        self._first, self._second = first, second
        self.fresh += fresh
        self.run = 0
        self._said += len(spoken)
        self._add_parts(" ".join(spoken))
        self._clause_familiar += familiar
        self._clause_words += len(spoken)
        if self._clause_words >= _LONGEST_CLAUSE:
            self._end_clause(whole=False)

    def _mixed(self, token: str) -> None:
        """A number, or a word with digits in it; a number one higher than the last is a counter."""
        base = token.rstrip(_DIGITS)
        digits = token[len(base) :]
        if base:
            self._say([base])
        if not digits:
            return
        number = int(digits) if len(digits) <= _COUNTER_DIGITS else -1
        counter = number == self._number + 1 and number > 0
        self._number = number
        self.run = self.run + 1 if counter else 0
        key = 1
        if not counter:
            key = crc32(digits.encode()) & _MASK
            said = self._table[key]
            self._table[key] = said | _WORD
            self.fresh += not said & (_WORD | _WORD_BEFORE)
        self._count((self._first * 37 + self._second * 11 + key) & _MASK)
        self._first, self._second = self._second, key
        self._said += 1
        self._add_parts("#" if counter else digits)

    def _add_parts(self, parts: str) -> None:
        # Never the hash of a single word: it ends in a blank.
        self._clause_sum = crc32(f"{parts} ".encode(), self._clause_sum)
        self._clause_size += len(parts) + 1

    def _count(self, slot: int) -> int:
        """Count one more in a slot; how often it was counted before, at most four."""
        said = self._table[slot]
        if said & _LATE < _TWICE:
            self._table[slot] = said + 1
        return (said & _LATE) + (said >> _SHIFT & _LATE)

    def _end_clause(self, *, whole: bool = True) -> None:
        words = self._clause_words
        if words:
            familiar = self._clause_familiar
            long = whole and familiar < words and self._clause_size > _LEAST_CLAUSE
            if long and self._count(self._clause_sum & _MASK) >= _TWICE:
                familiar = words
            self.words += words
            self.familiar += familiar
            self._clause_words = self._clause_familiar = 0
        self._clause_size = self._clause_sum = 0


class FamiliarWindow:
    """
    Sums of a FamiliarScan over the latest pages.

    Args:
        pages: Pages in the window.
        size: Characters in a page.

    Raises:
        ValueError: A page is longer than MOST_SIZE.
    """

    __slots__ = ("_characters", "_gone", "_place", "_rows", "_size", "familiar", "fresh", "letters", "words")

    def __init__(self, pages: int, size: int) -> None:
        if size > MOST_SIZE:
            raise ValueError(f"pages of {size} characters, more than {MOST_SIZE}")
        self._size = size
        self._characters = pages * size
        kept = max(pages, -(-MAX_ROUND // size))
        self._rows = array("I", bytes(4 * kept))
        #: Where the newest page goes, and the one that leaves the window then.
        self._place, self._gone = 0, kept - pages
        self.words = self.letters = self.familiar = self.fresh = 0

    def add(self, scan: FamiliarScan) -> None:
        """Take in what the scan found in the newest page."""
        rows, place, gone = self._rows, self._place, self._gone
        words, letters, familiar, fresh = scan.words, scan.letters, scan.familiar, scan.fresh
        old, kept = rows[gone], len(rows)
        self.words += words - (old & _MOST)
        self.letters += letters - (old >> _LETTERS & _MOST)
        self.familiar += familiar - (old >> _FAMILIAR & _MOST)
        self.fresh += fresh - (old >> _FRESH)
        rows[place] = words | letters << _LETTERS | familiar << _FAMILIAR | fresh << _FRESH
        self._place = place + 1 if place + 1 < kept else 0
        self._gone = gone + 1 if gone + 1 < kept else 0

    def familiar_share(self) -> float:
        """Familiar words of all; 0 where letters are few, as in tables of figures."""
        if self.words < _LEAST_WORDS or self.letters < _LEAST_LETTERS * self._characters:
            return 0.0
        return self.familiar / self.words

    def fresh_share(self, characters: int = 0) -> float:
        """
        Words and numbers new to the remembered text, for each word of the window; 1 while there are few words.

        Args:
            characters: How much of the latest text the new ones are counted in, if that is more than the window; at
                most MAX_ROUND.
        """
        if self.words < _LEAST_WORDS:
            return 1.0
        fresh, rows, place = self.fresh, self._rows, self._place
        if characters > self._characters:
            fresh = 0
            for _ in range(min(-(-characters // self._size), len(rows))):
                place = (place or len(rows)) - 1
                fresh += rows[place] >> _FRESH
        return min(1.0, fresh / self.words)


#: Characters of a page, so that with what a clause brings along it holds no more of anything than a byte.
MOST_SIZE: Final = 128
#: What is kept of each page, in one number: words below, and where in it the rest begins.
_LETTERS: Final = 8
_FAMILIAR: Final = 16
_FRESH: Final = 24
_MOST: Final = 255
#: Words in a window before shares of them say anything.
_LEAST_WORDS: Final = 16
#: Share of a window's characters that must be letters.
_LEAST_LETTERS: Final = 0.35
