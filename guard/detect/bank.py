"""All the detectors of one choice behind one door."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from guard.detect.acceptance import measured, slack_of
from guard.detect.baseline import Baseline
from guard.detect.catalogue import CATALOGUE
from guard.detect.channel import BLOCK, PAGE, Reader, TextChannel
from guard.detect.prompt import Prompt
from guard.detect.rare import RESTING
from guard.detect.step_window import LEAST_HISTORY, Slack
from guard.types import AT_FALL, Cadence, Channel, Finding, Sample, SignalRef, Unit, Window

if TYPE_CHECKING:
    from guard.detect.acceptance import Measured, Readings

_ACCEPTANCE: Final = frozenset(name for name, spec in CATALOGUE.items() if spec.needs_acceptance) - {*AT_FALL}
#: Those that are measured against what was before.
_FALLS: Final = frozenset({"acceptance_drop", "acceptance_fall"})
#: Where a fall began is told by the change point, which learns what is usual from a window that is read for falls.
_USUAL_FALL: Final = Window(32, Unit.TOKENS)
#: Signals of which the smaller reading can be the worse one: with several channels, the reading farthest
#: from what prose shows wins.
_TWO_SIDED: Final = {"word_recurrence": 0.25, "fresh_words": 1.0, "function_words": 0.4, "pair_recurrence": 0.3}
#: Plans kept; a process has a few policies, each with its own.
_MOST_PLANS: Final = 64
#: Share of the judged positions kept from which model and draft agree, whatever is usual for them; the share from
#: which the text may be a loop; and tokens that say so.
_WELL: Final = 0.4
_TOO_WELL: Final = 0.8
_ENOUGH: Final = 12
#: As good as no end of text. Unit: characters.
_ENDLESS: Final = 1 << 30


class _Plan:
    """
    What follows from the signals alone, made once for all streams under one policy.

    Args:
        refs: Signals that will be read.
    """

    def __init__(self, refs: tuple[SignalRef, ...]) -> None:
        self.refs = tuple(dict.fromkeys(refs))
        for ref in self.refs:
            CATALOGUE[ref.name]
        told = {"tokens", *_ACCEPTANCE, *(ref.name for ref in self.refs if ref.of_logprobs)}
        self.text_refs = tuple(ref for ref in self.refs if ref.name not in told)
        steps = [ref for ref in self.refs if ref.name in _ACCEPTANCE]
        # In the order in which the policy names them: that of a set is another in each process.
        windows: list[Window | None] = [ref.window for ref in steps]
        falls: list[Window | None] = [ref.window for ref in steps if ref.name in _FALLS]
        if not falls and any(ref.name in AT_FALL for ref in self.refs):
            falls.append(_USUAL_FALL)
        self.windows = tuple(dict.fromkeys([*windows, *falls]))
        self.falls = tuple(dict.fromkeys(falls))
        self.loops = [index for index, ref in enumerate(self.text_refs) if ref.cadence is Cadence.BLOCK]
        self.resting = [index for index, ref in enumerate(self.text_refs) if ref.name in RESTING]
        #: Number of each signal: its place among those of text, or -1 - its place among those of steps.
        self.place = {ref: index for index, ref in enumerate(self.text_refs)}
        self.step_refs = tuple(ref for ref in self.refs if ref not in self.place)
        self.place.update((ref, -1 - index) for index, ref in enumerate(self.step_refs))
        # Hashing a ref costs more than reading it; judges read with the very objects given here, which
        # this keeps alive, so that an id stands for nothing else.
        self.kept = refs
        self.by_id = {id(ref): self.place[ref] for ref in refs}
        self._rows: dict[int, tuple[tuple[SignalRef, ...], tuple[int, ...] | None]] = {}

    def row(self, refs: tuple[SignalRef, ...]) -> tuple[int, ...] | None:
        """Places among the signals of text; None where one of steps is among them. For a few tuples that stay."""
        known = self._rows.get(id(refs))
        if known is None:
            if len(self._rows) >= _MOST_PLANS:
                self._rows.clear()
            places = tuple(self.place[ref] for ref in refs)
            # It keeps them alive, so that the id stands for nothing else.
            known = self._rows[id(refs)] = (refs, places if min(places, default=0) >= 0 else None)
        return known[1]

    @classmethod
    def of(cls, refs: tuple[SignalRef, ...]) -> _Plan:
        """The plan for these very objects."""
        key = tuple(map(id, refs))
        plan = _PLANS.get(key)
        if plan is None:
            if len(_PLANS) >= _MOST_PLANS:
                _PLANS.clear()
            plan = _PLANS[key] = cls(refs)
        return plan


_MEASURES: Final[dict[str, Callable[[Readings], Reader]]] = {
    "acceptance_drop": lambda window: window.drop,
    "acceptance_fall": lambda window: window.fall,
    "acceptance_length": lambda window: window.length,
    "acceptance_rate": lambda window: window.rate,
    "acceptance_probability": lambda window: window.probability,
    "undrafted": lambda window: window.undrafted,
}
_PLANS: Final[dict[tuple[int, ...], _Plan]] = {}


def _never() -> int | None:
    return None


def _fell_of(acceptance: Measured) -> Callable[[], int | None]:
    return lambda: acceptance.fell


def _fails_of(acceptance: Measured, usual: Readings) -> Callable[[], int | None]:
    def fails() -> int | None:
        fell = acceptance.fell
        # What has nothing to fall from, as yet or because it was low from the first token on, fails from there.
        return 0 if fell is None and not usual.reference() >= LEAST_HISTORY else fell

    return fails


class DetectorBank:
    """
    The detectors one choice needs for the given signals.

    Args:
        refs: Signals that will be read; nothing else is computed.
        baseline: The deployment's healthy acceptance, if known.
        prompt: What the user wrote: what it asks for is no fault of the answer.

    Raises:
        KeyError: A name is not in the catalogue.
    """

    def __init__(self, refs: Iterable[SignalRef], baseline: Baseline | None = None, prompt: str = "") -> None:
        self._plan = plan = _Plan.of(tuple(refs))
        self._tokens = 0
        #: Of these the latest, whose text is still to come.
        self._ahead = 0
        self._version = 0
        #: Changes so far of readings of loops, and pages of text, over all channels: other readings of text change
        #: with pages only.
        self.text = (0, 0)
        self._prompt = Prompt(prompt)
        self._channels: dict[Channel, TextChannel] = {}
        #: Of all channels, where there are several.
        self._readers: dict[Channel, tuple[Reader, ...]] = {}
        #: Text of channels that have no block of it yet, with the tokens up to it and including it.
        self._early: dict[Channel, list[tuple[str, int, int]]] = {}
        #: Readers of the only channel there is, and the channel; None with none or several.
        self._only: tuple[Reader, ...] | None = None
        self._sole: TextChannel | None = None
        self._acceptance = measured(plan.windows, plan.falls, baseline) if plan.windows else None
        self._steps = tuple(map(self._step_reader, plan.step_refs))
        #: How far each of these is from a bound above it, and below it.
        self._rises = tuple([self._slack_of(ref, True) for ref in plan.step_refs])
        self._sinks = tuple([self._slack_of(ref, False) for ref in plan.step_refs])
        # Readings of text since they last changed, which they do a block or a page at a time.
        self._values: list[float | None] = [None] * len(plan.text_refs)
        self._any_value = False

    @property
    def tokens(self) -> int:
        """Tokens of the choice so far."""
        return self._tokens

    @property
    def version(self) -> int:
        """Changes whenever any reading may have changed, and never goes back to an earlier value."""
        return self._version

    def room(self, name: Channel) -> int:
        """Characters that may follow in a channel before a reading of text can change; see `TextChannel.room`."""
        if not self._plan.text_refs:
            return _ENDLESS
        channel = self._channels.get(name)
        if channel is not None:
            return channel.room
        return PAGE - sum([len(text) for text, _, _ in self._early.get(name, ())])

    def is_ordinary(self, name: Channel) -> bool:
        """
        Whether text of a channel may wait to be read, by its latest steps: the draft does well, yet not as well as in
        a loop, there is none, and what was read last said something new.
        """
        acceptance, channel = self._acceptance, self._channels.get(name)
        if acceptance is None or (channel is not None and (channel.repeats or not channel.says_new)):
            return False
        window = acceptance.windows[self._plan.windows[0]]
        return window.tokens >= _ENOUGH and _WELL <= window.told()[0] < _TOO_WELL

    def slack(self, ref: SignalRef, bound: float, ahead: int, rising: bool) -> Slack:
        """How far a reading of acceptance is from a bound, for the next tokens; see `slack_of`."""
        place = self._plan.by_id.get(id(ref))
        if place is None:
            place = self._plan.place.get(ref, 0)
        known = self._rises if rising else self._sinks
        slack: Any = known[-1 - place] if place < 0 else None
        return (-1.0, 0.0) if slack is None else slack(bound, ahead)

    def observe(self, sample: Sample) -> None:
        """Take in the choice's share of one chunk. Never raises, whatever the text."""
        before, tokens, steps = self._tokens, sample.tokens, sample.steps
        after = before
        if tokens > 0:
            after = self._tokens = before + tokens
        if tokens or steps:
            self._version += 1
        if steps and self._acceptance is not None:
            self._acceptance.take(steps, before, after)
        before -= self._ahead
        self._ahead = 0
        if not self._plan.text_refs:
            return
        for name, text in sample.texts:
            if text:
                channel = self._channels.get(name)
                if channel is None:
                    self._begin(name, text, before, after)
                    continue
                blocks = channel.feed(text, before, after)
                if blocks:
                    pages = channel.pages_in(blocks)
                    if pages or channel.turned:
                        self._forget(1, pages)

    def take_ahead(self, counts: bytes) -> None:
        """
        Take in the verify steps of chunks that have one each, whose text is observed later, with the next sample.

        Args:
            counts: Of each, tokens that its step accepted and drafted, and those of its chunk, one byte each.
        """
        before, tokens = self._tokens, sum(counts[2::3])
        after = self._tokens = before + tokens
        self._ahead += tokens
        self._version += 1
        if self._acceptance is not None:
            self._acceptance.take_counts(counts, before, after)

    def _begin(self, name: Channel, text: str, before: int, after: int) -> None:
        """The first text of a channel. Its detectors are made with its first block: the first word need not wait."""
        early = self._early.setdefault(name, [])
        early.append((text, before, after))
        if sum([len(piece[0]) for piece in early]) < BLOCK:
            return
        channel = self._open(name)
        for piece in self._early.pop(name):
            channel.feed(*piece)
        if not self._early:
            # One that was filled keeps its room.
            self._early = {}
        self._forget(1, 1)

    def _open(self, name: Channel) -> TextChannel:
        fell = fails = _never
        acceptance, falls = self._acceptance, self._plan.falls
        if acceptance is not None:
            fell = _fell_of(acceptance)
            fails = _fails_of(acceptance, acceptance.windows[falls[0]]) if falls else fell
        channel = self._channels[name] = TextChannel(self._plan.text_refs, self._prompt, fell, fails)
        readers = channel.readers
        if len(self._channels) == 1:
            self._only, self._sole = readers, channel
        else:
            if self._only is not None:
                self._readers[next(iter(self._channels))] = self._only
            self._readers[name] = readers
            self._only = self._sole = None
        self._forget(1, 1)
        return channel

    def read(self, ref: SignalRef) -> float:
        """Reading of one of the signals given at construction; nan while unknown."""
        index = self._plan.by_id.get(id(ref))
        if index is None:
            index = self._plan.place[ref]
        if index < 0:
            reader = self._steps[-1 - index]
            return reader() if reader is not None else float(self._tokens)
        value = self._values[index]
        if value is None:
            only = self._only
            value = self._values[index] = only[index]() if only is not None else self._read_worst(index)
            self._any_value = True
        return value

    def read_all(self, refs: tuple[SignalRef, ...]) -> list[float]:
        """Readings of several signals, in their order, as of `read`."""
        row, only = self._plan.row(refs), self._only
        if row is None or only is None:
            # Before the first block of text nothing is known of it.
            unread = row is not None and not self._channels
            return [math.nan] * len(refs) if unread else [self.read(ref) for ref in refs]
        # Of any type, so that a compiled build hands them on as the objects that they are.
        values: list[Any] = self._values
        found: list[Any] = []
        for index in row:
            value = values[index]
            if value is None:
                reader: Any = only[index]
                value = values[index] = reader()
            found.append(value)
        self._any_value = True
        return found

    def _forget(self, turns: int, pages: int) -> None:
        self._version += 1
        self.text = (self.text[0] + turns, self.text[1] + pages)
        if not self._any_value:
            return
        if pages:
            values = self._values = [None] * len(self._values)
            sole = self._sole
            self._any_value = sole is not None and sole.rests
            if self._any_value:
                for index in self._plan.resting:
                    values[index] = 0.0
        else:
            for index in self._plan.loops:
                self._values[index] = None

    def finding(self, ref: SignalRef) -> Finding:
        """The evidence behind a reading."""
        value = self.read(ref)
        onset, reason = 0, f"{ref} is {value:.3g}"
        if ref.name == "tokens":
            reason = f"{value:.0f} tokens so far"
        elif ref.name in _ACCEPTANCE and self._acceptance is not None:
            onset = self._acceptance.onset(ref.window, self._tokens)
            reason = self._why_acceptance(ref, value, onset)
        elif self._channels:
            index = self._plan.place[ref]
            name = self._worst_channel(index, _TWO_SIDED.get(ref.name))
            channel = self._channels[name]
            onset = channel.onset(index)
            reason = channel.why(index, value) + ("" if name is Channel.CONTENT else f" in the {name}")
        return Finding(signal=ref, value=value, onset_token=onset, reason=reason)

    def _read_worst(self, index: int) -> float:
        """A reading of text where there is no channel, or several."""
        channels = self._channels
        if not channels:
            return math.nan
        middle = _TWO_SIDED.get(self._plan.text_refs[index].name)
        return self._readers[self._worst_channel(index, middle)][index]()

    def _step_reader(self, ref: SignalRef) -> Reader | None:
        """None for the count of tokens: a method of this bank, kept in it, would keep it alive (see TextChannel)."""
        acceptance = self._acceptance
        if ref.name == "tokens":
            return None
        if acceptance is None:
            raise KeyError(ref)
        if ref.name == "acceptance_evidence":
            return lambda: acceptance.evidence
        return _MEASURES[ref.name](acceptance.windows[ref.window])

    def _slack_of(self, ref: SignalRef, rising: bool) -> Callable[[float, int], Slack] | None:
        acceptance = self._acceptance
        if acceptance is None or ref.name not in _MEASURES:
            return None
        return slack_of(ref.name, acceptance.windows[ref.window], rising=rising)

    def _worst_channel(self, index: int, middle: float | None) -> Channel:
        worst, found = -math.inf, next(iter(self._channels))
        for name, readers in self._readers.items():
            reading = readers[index]()
            badness = reading if middle is None else abs(reading - middle)
            if badness > worst:  # never true of nan
                worst, found = badness, name
        return found

    def _why_acceptance(self, ref: SignalRef, value: float, onset: int) -> str:
        acceptance = self._acceptance
        if acceptance is None:
            return f"{ref} is {value:.3g}"
        window = acceptance.windows[ref.window]
        probability, length = window.told()
        if ref.name in _FALLS:
            reference = window.own if ref.name == "acceptance_drop" else window.reference()
            return (
                f"acceptance probability fell from {reference:.2f} to {probability:.2f}"
                f" at token {onset} (length {length:.2f})"
            )
        return f"{ref.name.replace('_', ' ')} is {value:.2f}" + (f" over {ref.window}" if ref.window else "")
