"""The text detectors of one channel, fed in blocks whose borders do not depend on chunks."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import partial
from typing import Final

from guard.detect.blank import BlankRun
from guard.detect.novelty import NewWords
from guard.detect.parts import Parts
from guard.detect.prompt import Prompt
from guard.detect.repetition import Repetition, plainness
from guard.detect.sameness import MOST, sameness
from guard.detect.sentences import SentenceBreak
from guard.detect.stretch import Pages
from guard.detect.topic import TopicBreak
from guard.types import AT_FALL, SignalRef, Window

#: Characters the detectors of loops take at a time. Unit: characters.
BLOCK: Final = 16
#: Blocks in a page, which the detectors with a window take at a time. Unit: blocks.
PAGE_BLOCKS: Final = 4
#: Unit: characters.
PAGE: Final = BLOCK * PAGE_BLOCKS
#: Blocks whose token position is remembered, enough for the longest period.
_MARKS: Final = 144
#: Blocks beyond that before the oldest are dropped.
_SLACK: Final = 16
#: Rounds of a passage up to which the prompt need not hold it for it to have been asked for.
_FEW: Final = 3
_FIGURES: Final = frozenset("0123456789")
#: Characters of a passage of figures at least, and different figures in it: shorter ones are decimals, and poorer ones
#: matrices, rules and masks.
_LEAST_ROW: Final = 32
_LEAST_FIGURES: Final = 6
#: Largest token position that is remembered.
_MOST_TOKENS: Final = 0xFFFF_FFFF

Reader = Callable[[], float]
#: Reader of each signal on loops.
_LOOP: Final = {
    "repetition_count": "_loop_count",
    "repetition_characters": "_loop_characters",
    "repetition_tokens": "_loop_tokens",
    "repetition_letters": "_loop_letters",
    "repetition_marks": "_loop_marks",
    "repetition_figures": "_loop_figures",
    "repetition_plain": "_loop_plain",
}
#: And of each signal on the text since acceptance fell.
_SINCE: Final = {
    "topic_break": "_broke",
    "sentence_break": "_broke_off",
    "new_words": "_new_words",
    "broken_words": "_broken_words",
    "joint_kinds": "_joint_kinds",
}
#: Further signals that look at the latest text.
_READS_TEXT: Final = ("sameness", "fresh_words", "nested_again", "counted_words", "counting")


def pages_in(window: Window | None) -> int | None:
    """Pages that make up a window, rounded up; None for the whole text."""
    return None if window is None else max(1, -(-window.size // PAGE))


class TextChannel:
    """
    What one channel's text shows.

    Args:
        refs: Text signals asked for; only what they need is computed.
        prompt: What the user wrote.
        fell: Tells the token at which acceptance fell; None while there is no fall.
        fails: Tells the token from which the draft fails: the same, or 0 where it never did better.
    """

    __slots__ = (
        "_blank", "_fails", "_fell", "_half", "_has_pages", "_loop_onset", "_loop_start", "_novelty", "_pages",
        "_parts", "_pending", "_prompt", "_refs", "_repetition", "_sentences", "_size", "_tokens", "_topic", "turned",
    )  # fmt: skip

    def __init__(
        self,
        refs: tuple[SignalRef, ...],
        prompt: Prompt | None = None,
        fell: Callable[[], int | None] = lambda: None,
        fails: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._pending = ""
        self._half = ""
        self._size = 0
        self._tokens = array("I")
        self._prompt = prompt if prompt is not None else Prompt()
        needed = any(ref.name in _LOOP or ref.name in _READS_TEXT for ref in refs)
        self._repetition = Repetition() if needed else None
        self._loop_onset = self._loop_start = 0
        self._blank: BlankRun | None = None
        self._pages = Pages(self._prompt, PAGE, self._repetition)
        self._fell = fell
        self._fails = fails
        # Here, not in `_build`: a compiler that has seen None assigned takes what is read below for None.
        asked = any(ref.name in AT_FALL for ref in refs)
        self._topic = TopicBreak(self._prompt) if asked else None
        self._sentences = SentenceBreak(self._prompt) if asked else None
        self._novelty = NewWords() if asked else None
        self._refs = refs
        #: What the pages give for each signal, by its place in `refs`.
        self._parts: list[Parts | None] = [None] * len(refs)
        for index in range(len(refs)):
            self._build(index)
        self._has_pages = self._pages.wanted or asked
        #: Whether the latest blocks changed a reading of loops, or may have.
        self.turned = False

    def _build(self, index: int) -> None:
        """Make the detector of one signal, by its place in `refs`."""
        ref = self._refs[index]
        name = ref.name
        if name == "blank_lines":
            self._blank = self._blank or BlankRun()
        elif name != "sameness" and name not in AT_FALL and name not in _LOOP:
            self._parts[index] = self._pages.part(name, pages_in(ref.window))

    @property
    def readers(self) -> tuple[Reader, ...]:
        """
        Reading of each signal, in the order of `refs`: to be kept by who reads.

        Kept here, they would hold what holds them, and all of it would outlive its stream until the collector of
        garbage next looks through everything there is, which holds up all streams.
        """
        return tuple(map(self._reader, range(len(self._refs))))

    def _reader(self, index: int) -> Reader:
        part = self._parts[index]
        if part is not None:
            return part.value
        name = self._refs[index].name
        if name == "blank_lines":
            return self._blank_lines
        if name == "sameness":
            return partial(self._sameness, self._refs[index].window)
        return getattr(self, _LOOP.get(name) or _SINCE[name])  # type: ignore[no-any-return]

    def pages_in(self, blocks: int) -> int:
        """Pages that the latest blocks completed."""
        return self._size // PAGE - (self._size - blocks * BLOCK) // PAGE

    @property
    def room(self) -> int:
        """
        Characters that may follow before a reading can change: up to the end of the page, or of the block while
        something repeats. A loop that begins meanwhile is seen then.
        """
        left = BLOCK - len(self._pending)
        return left if self.repeats else left + PAGE - BLOCK - len(self._half)

    @property
    def repeats(self) -> bool:
        """Whether the latest text is a loop, or nothing but line ends."""
        loop, blank = self._repetition, self._blank
        return (loop is not None and loop.period > 0) or (blank is not None and blank.lines > 0)

    @property
    def says_new(self) -> bool:
        """See `Pages.says_new`."""
        return self._pages.says_new

    @property
    def rests(self) -> bool:
        """See `Pages.rests`."""
        return self._pages.rests

    def onset(self, index: int) -> int:
        """Token at which what one signal shows began, by its place in `refs`."""
        ref = self._refs[index]
        if ref.name.startswith("repetition_"):
            return self._loop_onset
        if ref.name in AT_FALL:
            return self._fell() or 0
        if ref.name == "sameness":
            return self._token_at(self._size - self._latest(ref.window)[0])
        if ref.name == "blank_lines":
            return self._token_at(self._size - (self._blank.characters if self._blank is not None else 0))
        part = self._parts[index]
        return self._pages_back(part.pages_back() if part is not None else 0)

    def _broke(self) -> float:
        """How far the text left its subject where acceptance fell; nan while that cannot be told."""
        onset, topic = self._fell(), self._topic
        return topic.value(onset, self._since(onset)) if topic is not None and onset is not None else math.nan

    def _broke_off(self) -> float:
        """How much less of it is sentences since acceptance fell; nan while that cannot be told."""
        onset, topic, sentences = self._fell(), self._topic, self._sentences
        if topic is None or sentences is None or onset is None:
            return math.nan
        return sentences.value(onset, self._since(onset), topic.latest)

    def _new_words(self) -> float:
        """How much of it is new words since the draft fails; nan while that cannot be told."""
        since = self._since_it_fails()
        return since.new if since is not None else math.nan

    def _broken_words(self) -> float:
        """How broken its words are since the draft fails; nan while that cannot be told."""
        since = self._since_it_fails()
        return since.broken if since is not None else math.nan

    def _joint_kinds(self) -> float:
        """In how many ways its words are broken since the draft fails; nan while that cannot be told."""
        since = self._since_it_fails()
        return since.kinds if since is not None else math.nan

    def _since_it_fails(self) -> NewWords | None:
        onset, topic, novelty = self._fails(), self._topic, self._novelty
        if topic is None or novelty is None or onset is None:
            return None
        novelty.look(onset, self._since(onset), topic.latest)
        return novelty

    def _since(self, token: int) -> int:
        """Characters of whole pages since a token; negative when that is not known any more."""
        marks = self._tokens
        # The first block that ended at that token or later; what is older than the marks is not looked at any more.
        place = bisect_left(marks, token)
        blocks = len(marks) - 1 - place if place or self._size == len(marks) * BLOCK else -1
        return blocks * BLOCK - len(self._half)

    def _latest(self, window: Window | None) -> tuple[int, int]:
        """
        Characters and tokens of the latest blocks that fill a window in tokens, at most MOST characters; 0 and 0 while
        there are too few.
        """
        marks = self._tokens
        if window is None or not marks:
            return 0, 0
        blocks = min(MOST // BLOCK, len(marks) - bisect_right(marks, marks[-1] - window.size))
        if blocks == len(marks):
            return 0, 0
        return blocks * BLOCK, marks[-1] - marks[-1 - blocks]

    def _sameness(self, window: Window | None) -> float:
        """How little the latest tokens add to what stood before them; nan while there are too few."""
        size, tokens = self._latest(window)
        if not tokens or self._repetition is None:
            return math.nan
        text = self._repetition.latest
        return sameness(self._prompt, text[-size:], text[-size - size // 2 : -size], tokens)

    def _blank_lines(self) -> float:
        return float(self._blank.lines) if self._blank is not None else 0.0

    def _loop_count(self) -> float:
        loop = self._repetition
        if loop is None or not loop.period:
            return 1.0
        count, prompt = loop.count, self._prompt
        if count <= 1.0:
            return 1.0
        # A few rounds of a long passage may be the verses, or the copies, that were asked for.
        if count <= min(prompt.rounds, _FEW) or prompt.asked_for(loop.passage, count):
            return 1.0
        return count

    def _loop_characters(self) -> float:
        return float(self._repetition.characters) if self._repetition is not None else 0.0

    def _loop_letters(self) -> float:
        return self._repetition.letters if self._repetition is not None else 0.0

    def _loop_marks(self) -> float:
        loop = self._repetition
        if loop is None or not loop.period or loop.letters or any(map(str.isalnum, loop.passage)):
            return 0.0
        return loop.count if loop.count > self._prompt.times else 0.0

    def _loop_figures(self) -> float:
        loop = self._repetition
        if loop is None or loop.period < _LEAST_ROW or loop.letters:
            return 0.0
        passage = loop.passage
        # Digits without a blank are one number, of which a fraction may have any period.
        if len(_FIGURES.intersection(passage)) < _LEAST_FIGURES or not any(map(str.isspace, passage)):
            return 0.0
        return 0.0 if self._prompt.figures else loop.count

    def _loop_plain(self) -> float:
        return plainness(self._repetition.passage) if self._repetition is not None else 0.0

    def feed(self, text: str, before: int, after: int) -> int:
        """
        Take in the next text.

        Args:
            text: Any text, cut anywhere.
            before: Tokens of the choice up to it.
            after: Tokens of the choice up to and including it; in between they are spread evenly.

        Returns:
            Blocks that were completed, so that readings may have changed.
        """
        carried = len(self._pending)
        pending = self._pending + text
        size, start = len(pending), BLOCK
        if size < BLOCK:
            self._pending = pending
            return 0
        added, length = after - before, len(text)
        self.turned = False
        while start <= size:
            self._block(pending[start - BLOCK : start], before + added * (start - carried) // length)
            start += BLOCK
        self._pending = pending[start - BLOCK :]
        return start // BLOCK - 1

    def _block(self, block: str, tokens: int) -> None:
        self._size += BLOCK
        self._tokens.append(tokens if tokens < _MOST_TOKENS else _MOST_TOKENS)
        if len(self._tokens) > _MARKS + _SLACK:
            del self._tokens[:_SLACK]
        loop, blank = self._repetition, self._blank
        if loop is not None:
            before, covered = loop.period, loop.characters
            if loop.feed(block):
                self.turned = True
                if not (before == loop.period and loop.characters > covered):
                    self._begin_loop(loop)
            elif before:
                self.turned = True
        if blank is not None and (blank.characters or block[-1].isspace()):
            lines = blank.lines
            blank.feed(block)
            if blank.lines != lines:
                self.turned = True
        if self._has_pages:
            page = self._half + block
            if len(page) == PAGE:
                self._half = ""
                self._pages.feed(page)
                if self._topic is not None:
                    self._topic.add(page)
            else:
                self._half = page

    def _begin_loop(self, loop: Repetition) -> None:
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
        # The n-th latest mark stands n - 1 blocks before the end.
        back = -(-(self._size - position) // BLOCK)
        return self._tokens[-1 - back] if back < len(self._tokens) else self._oldest()

    def _oldest(self) -> int:
        """Token of a position before the marks: the start, or the oldest mark still kept."""
        return self._tokens[0] if self._size > len(self._tokens) * BLOCK else 0

    def _pages_back(self, pages: int) -> int:
        return self._token_at(self._size - len(self._half) - pages * PAGE)

    def why(self, index: int, value: float) -> str:
        """One clause a person can read on what one signal shows here, by its place in `refs`."""
        ref, loop = self._refs[index], self._repetition
        if ref.name.startswith("repetition_") and loop is not None:
            return f"a passage of {loop.period} characters repeats {loop.count:.0f} times"
        if ref.name == "sameness":
            return f"the latest {ref.window} are {value:.0%} what stood before them"
        if ref.name == "blank_lines":
            return f"{value:.0f} line ends follow each other"
        if ref.name == "topic_break" and self._topic is not None:
            return self._topic.why()
        if ref.name == "sentence_break" and self._sentences is not None:
            return self._sentences.why()
        if ref.name in ("new_words", "broken_words", "joint_kinds") and self._novelty is not None:
            return self._novelty.why(ref.name)
        part = self._parts[index]
        return (part.why(ref.name, value) if part is not None else "") or f"{ref} is {value:.3g}"
