"""All the detectors of one choice behind one door."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from guard.detect.acceptance import Acceptance
from guard.detect.baseline import Baseline
from guard.detect.catalogue import CATALOGUE
from guard.detect.channel import TextChannel
from guard.types import Channel, Finding, Sample, SignalRef, Window

_ACCEPTANCE = frozenset(name for name, spec in CATALOGUE.items() if spec.needs_acceptance)
#: Signals of which the smaller reading can be the worse one, so both ends are kept: the farthest from
#: the middle of what prose shows wins.
_TWO_SIDED = {"word_recurrence": 0.25}


class DetectorBank:
    """
    The detectors one choice needs for the given signals.

    Args:
        refs: Signals that will be read; nothing else is computed.
        baseline: The deployment's healthy acceptance, if known.

    Raises:
        KeyError: A name is not in the catalogue.
    """

    def __init__(self, refs: Iterable[SignalRef], baseline: Baseline | None = None) -> None:
        wanted = tuple(dict.fromkeys(refs))
        for ref in wanted:
            CATALOGUE[ref.name]
        self._tokens = 0
        self._text_refs = tuple(r for r in wanted if r.name not in _ACCEPTANCE and r.name != "tokens")
        self._channels: dict[Channel, TextChannel] = {}
        windows: set[Window | None] = {r.window for r in wanted if r.name in _ACCEPTANCE}
        falls = {r.window for r in wanted if r.name == "acceptance_fall"}
        self._acceptance = Acceptance(windows, falls, baseline) if windows else None
        self._readers = {ref: self._reader(ref) for ref in wanted}
        # Hashing a ref costs more than reading it; judges read with the very objects given here.
        self._by_id = {id(ref): self._readers[ref] for ref in wanted}
        self._keep = wanted
        # Readings since they last changed: text moves a block at a time, acceptance a step at a time.
        self._values: dict[int, float] = {}
        text = set(self._text_refs)
        self._text_keys = tuple(id(ref) for ref in wanted if ref in text)
        self._step_keys = tuple(id(ref) for ref in wanted if ref not in text)

    @property
    def tokens(self) -> int:
        """Tokens of the choice so far."""
        return self._tokens

    def observe(self, sample: Sample) -> None:
        """Take in the choice's share of one chunk. Never raises, whatever the text."""
        before = self._tokens
        self._tokens += max(0, sample.tokens)
        if sample.tokens or sample.steps:
            self._forget(self._step_keys)
        if self._acceptance is not None:
            for step in sample.steps:
                self._acceptance.add(step, self._tokens)
        if not self._text_refs:
            return
        for name, text in sample.texts:
            if text:
                channel = self._channels.get(name)
                if channel is None:
                    channel = self._channels[name] = TextChannel(self._text_refs)
                    self._forget(self._text_keys)
                if channel.feed(text, before, self._tokens):
                    self._forget(self._text_keys)

    def read(self, ref: SignalRef) -> float:
        """Reading of one of the signals given at construction; nan while unknown."""
        key = id(ref)
        value = self._values.get(key)
        if value is not None:
            return value
        reader = self._by_id.get(key)
        if reader is None:
            # An equal ref but another object, whose id may come to stand for something else.
            return self._readers[ref]()
        value = self._values[key] = reader()
        return value

    def _forget(self, keys: tuple[int, ...]) -> None:
        values = self._values
        for key in keys:
            values.pop(key, None)

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
            index = self._text_refs.index(ref)
            name = self._worst_channel(index, _TWO_SIDED.get(ref.name))
            channel = self._channels[name]
            onset = channel.onsets[index]()
            reason = channel.why(ref, value) + ("" if name is Channel.CONTENT else f" in the {name}")
        return Finding(signal=ref, value=value, onset_token=onset, reason=reason)

    def _reader(self, ref: SignalRef) -> Callable[[], float]:
        acceptance = self._acceptance
        if ref.name == "tokens":
            return lambda: float(self._tokens)
        if ref.name not in _ACCEPTANCE or acceptance is None:
            index, middle = self._text_refs.index(ref), _TWO_SIDED.get(ref.name)
            return lambda: self._worst(index, middle)
        window = acceptance.windows[ref.window]
        if ref.name == "acceptance_fall":
            return lambda: acceptance.fall(ref.window)
        measure = {
            "acceptance_length": window.tally.length,
            "acceptance_rate": window.tally.rate,
            "acceptance_probability": window.tally.probability,
            "undrafted": window.tally.undrafted_share,
        }[ref.name]
        return lambda: measure() if window.full else math.nan

    def _worst(self, index: int, middle: float | None) -> float:
        channels = self._channels
        if not channels:
            return math.nan
        if len(channels) == 1:
            for channel in channels.values():
                return channel.readers[index]()
        return channels[self._worst_channel(index, middle)].readers[index]()

    def _worst_channel(self, index: int, middle: float | None) -> Channel:
        worst, found = -math.inf, next(iter(self._channels))
        for name, channel in self._channels.items():
            reading = channel.readers[index]()
            badness = reading if middle is None else abs(reading - middle)
            if badness > worst:  # never true of nan
                worst, found = badness, name
        return found

    def _why_acceptance(self, ref: SignalRef, value: float, onset: int) -> str:
        acceptance = self._acceptance
        if acceptance is None:
            return f"{ref} is {value:.3g}"
        tally = acceptance.windows[ref.window].tally
        if ref.name == "acceptance_fall":
            reference = acceptance.reference(ref.window)
            return (
                f"acceptance probability fell from {reference:.2f} to {tally.probability():.2f}"
                f" at token {onset} (length {tally.length():.2f})"
            )
        return f"{ref.name.replace('_', ' ')} is {value:.2f}" + (f" over {ref.window}" if ref.window else "")
