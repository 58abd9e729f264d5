"""One upstream attempt as the exchange sees it: parse, read the signal, judge, rewrite, hold."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from guard.core.engine_id import NO_ID, EngineId, unmarked
from guard.core.engine_verdict import REPETITION, engine_verdict
from guard.core.events import Headers
from guard.core.holdback import NO_CHOICE, Held, HoldBack
from guard.core.monitor import CLEAN, Leeway, Monitor
from guard.core.record import MAX_STEPS, AttemptRecord
from guard.core.settings import ExchangeSettings, Target
from guard.core.shadow import ShadowMonitor
from guard.core.wary import Wary
from guard.errors import ProtocolError
from guard.proto.ahead import Ahead
from guard.proto.chunks import LastChunk, sample_texts
from guard.proto.family import Identity, Reader, Rewriter
from guard.proto.plain import Run
from guard.proto.sse import SseEvent, SseParser
from guard.rescore.emitted import Emitted
from guard.signals.base import SignalAdapter
from guard.types import Action, Channel, Sample, Verdict
from guard.wire import Chunk, Plain

#: Looking a member up in an enumeration takes longer than the rest of what is done with it here.
_CONTENT: Final = Channel.CONTENT
_REASONING: Final = "reasoning was begun"


class Judged:
    """
    One event after parsing and judging.

    Args:
        chunk: What it says; None for comments.
        samples: Its share for each choice.
        verdict: The policy's decision.
        closing: What the client gets of the event that ends the stream; None for all others.
        calm: Whether nothing follows from it but that its samples have arrived.
    """

    __slots__ = ("calm", "chunk", "closing", "samples", "verdict")

    def __init__(
        self,
        chunk: Chunk | None,
        samples: Sequence[Sample],
        verdict: Verdict,
        closing: bytes | None = None,
        calm: bool = False,
    ) -> None:
        self.chunk = chunk
        self.samples = samples
        self.verdict = verdict
        self.closing = closing
        self.calm = calm


class Attempt:
    """
    State of attempt `record.number`.

    Args:
        target: Where it runs.
        settings: The exchange's settings.
        record: Filled in as the attempt goes.
        adapter: Reads this engine's acceptance signal.
        reader: Reads the family's events.
        rewriter: Turns this attempt's chunks into the client's.
        hold: An empty hold-back window.
        known: Under which id the engine knows it.
        prompt: What the user asked.
        whole: Whether the answer is read whole, not as a stream.
        ahead: The reader, where it reads one event ahead.
    """

    def __init__(
        self,
        target: Target,
        settings: ExchangeSettings,
        record: AttemptRecord,
        adapter: SignalAdapter,
        reader: Reader,
        rewriter: Rewriter,
        hold: HoldBack,
        known: EngineId = NO_ID,
        prompt: str = "",
        *,
        whole: bool = False,
        ahead: Ahead | None = None,
    ) -> None:
        #: Id for the engine's abort route; empty where there is none.
        self.rid = known.abort
        self._mark = known.mark
        self.whole = whole
        #: Of a whole answer, as it comes.
        self.body: list[bytes] = []
        self.body_size = 0
        self.target = target
        self.record = record
        self.hold = hold
        self.open = True
        self.head: Headers = ()
        #: Why the text seen so far could not be continued by another attempt; empty while it could.
        self.fragile = ""
        self.unfinished: set[int] = set()
        self.finished: set[int] = set()
        #: Choices the guard ended while the others go on.
        self.ended: set[int] = set()
        #: Tokens of theirs that came afterwards. Unit: tokens.
        self.tokens_dropped = 0
        self.monitor = (
            Monitor(settings.judge, target.baseline, prompt)
            if settings.shadow is None
            else ShadowMonitor(settings.judge, target.baseline, settings.shadow, record, prompt)
        )
        wariness = target.wariness
        #: Looks more closely while its replica is suspect.
        self.wary = Wary(wariness, settings.judge, self.monitor, record) if wariness is not None else None
        #: What is needed to score it again; None where that is not wanted or not possible.
        self.emitted: Emitted | None = None
        room = settings.max_event_bytes + (ahead.echo if ahead is not None else 0)
        self._parser = SseParser(max_event_bytes=room + len(self._mark))
        self._adapter = adapter
        self._reader = reader if ahead is None else ahead
        self._ahead = ahead
        if ahead is not None:
            rewriter.look_ahead(ahead)
        self._rewriter = rewriter
        self._annotate = settings.annotate
        self._policy = settings.judge.policy
        self._tapes = settings.tapes
        if self._tapes is not None:
            self._tapes.begin(record)
        self._events = 0
        self._suspicion = 0.0  # as it was last written down
        self._data = b""  # of the latest event of one choice
        self._plain: Plain | None = None  # the same event, if it is a plain chunk that passed
        self._counts: dict[int, int] = {}  # tokens by choice

    @property
    def identity(self) -> Identity | None:
        """Id and creation time of this attempt's chunks, once one was read."""
        return self._rewriter.identity

    def recall(self, text: str, tokens: int) -> None:
        """
        The attempt continues an answer: its detectors know what stands before, and tokens count on from there.

        Args:
            text: Content of the answer so far.
            tokens: In it. Unit: tokens.
        """
        self._counts[0] = self.record.began_at = tokens
        self.monitor.recall(text, tokens)

    def answered(self, choices: int, *, whole: bool) -> bool:
        """
        Whether the whole answer was read, whatever becomes of the connection.

        Args:
            choices: How many were asked for.
            whole: Whether nothing of what follows it may be lost either, the count of tokens for one.
        """
        return self.finish_reasons_complete and len(self.finished) >= choices and not (whole and self.pending)

    def finish(self) -> None:
        """Account for verify steps that the end of the stream completes."""
        self._account(self._adapter.finish())

    def feed(self, data: bytes) -> list[SseEvent]:
        """Cut bytes into events. Raises ProtocolError."""
        events = self._own(self._parser.feed(data))
        return events if self._ahead is None else self._ahead.feed(events)

    def last_events(self) -> list[SseEvent]:
        """Events that only the end of the body completes, and those that waited for the next. Raises ProtocolError."""
        events = self._own(self._parser.finish())
        return events if self._ahead is None else [*self._ahead.feed(events), *self._ahead.rest()]

    def _own(self, events: list[SseEvent]) -> list[SseEvent]:
        return unmarked(events, self._mark) if self._mark else events

    def take_body(self) -> bytes:
        """All of the whole answer that was read, which is then kept no longer."""
        body = b"".join(self.body)
        self.body.clear()
        return body.replace(self._mark, b"") if self._mark else body

    def settle(self, *, watch: bool) -> None:
        """Nothing follows, for it is lost: judge the events that waited for the next."""
        for event in self._ahead.rest() if self._ahead is not None else ():
            with contextlib.suppress(ProtocolError):
                self.judge(event, watch=watch)

    @property
    def pending(self) -> bytes:
        """Bytes of an event that has not ended."""
        return self._parser.pending

    @property
    def finish_reasons_complete(self) -> bool:
        """Whether every choice seen has ended."""
        return bool(self.finished) and not self.unfinished

    def judge(self, event: SseEvent, *, watch: bool) -> Judged:
        """
        Read one event and judge what it says; the event is then in the hold-back window.

        Args:
            event: From `feed`.
            watch: False once the policy has let the attempt pass: signals are still read for the
                record, detectors no longer run.

        Raises:
            ProtocolError: The event's data is no chunk; the message names the event.
        """
        self._events += 1
        if event.data is None:
            self.hold.push(Held(event.raw, "", 0, 0))
            return _NOTHING
        try:
            chunk = self._reader.read(event)
        except ProtocolError as error:
            raise ProtocolError(error.message, where=f"event {self._events} {error.where}".strip()) from error
        if chunk.error is not None:
            return Judged(chunk, (), CLEAN)
        if self.emitted is not None:
            self.emitted.add(chunk)
        samples = self._adapter.observe(chunk, sample_texts)
        tokens = self._account(samples)
        if self.ended and self._is_dropped(chunk, tokens):
            return Judged(chunk, (), CLEAN)
        verdict = self._observe(samples) if watch else CLEAN
        if (suspicion := self.monitor.suspicion) != self._suspicion:
            self._suspicion = suspicion
            self.record.suspect(suspicion)
        repeats = self._note_ends(chunk)
        if repeats is not None and watch and verdict.action in (Action.PASS, Action.HOLD):
            verdict = engine_verdict(self._policy, repeats, self._counts.get(repeats, 0), self.monitor.suspicion)
        steps = [step for sample in samples for step in sample.steps] if self._annotate else ()
        data = self._rewriter.apply(event, chunk, steps)
        if isinstance(chunk, LastChunk):
            return Judged(chunk, samples, verdict, data)
        choice = NO_CHOICE
        if len(chunk.choices) == 1:
            choice, self._data, self._plain = chunk.choices[0].index, event.data, None
        self.hold.push(Held(data, _content_text(samples), tokens, self._counts.get(choice, 0), choice))
        return Judged(chunk, samples, verdict, None, verdict.action in _CALM)

    @property
    def plain(self) -> bool:
        """Whether its plain chunks may be passed on at once, and taken in later with `take_plain`."""
        recorded = self._tapes is not None or self.emitted is not None
        return self._rewriter.plain and not (self._annotate or self.whole or recorded or self.record.suspected)

    def leeway(self, channel: Channel, ahead: int) -> Leeway | None:
        """What may follow of choice 0 before anything can be suspected; see `Monitor.leeway`."""
        return None if self.wary is not None and self.wary.doubts else self.monitor.leeway(channel, ahead)

    def take_plain(self, run: Run, sample: Sample) -> Verdict:
        """
        Take in and judge plain chunks of choice 0, of which the hold-back window knows nothing.

        Args:
            run: The chunks.
            sample: Their text.
        """
        record, counts, room = self.record, run.counts, MAX_STEPS - len(self.record.accepted)
        self._events += len(counts) // 3
        self._plain = run.last
        self._counts[0] = self._counts.get(0, 0) + run.tokens
        record.tokens += run.tokens
        if room > 0:
            record.accepted += counts[0 : 3 * room : 3]
            record.drafted += counts[1 : 3 * room : 3]
        if sample.texts[0][0] is not _CONTENT and not self.fragile:
            self.fragile = _REASONING
        if untaken := run.take():
            self.monitor.take_ahead(untaken)
        verdict = self._observe((sample,))
        if (suspicion := self.monitor.suspicion) != self._suspicion:
            self._suspicion = suspicion
            self.record.suspect(suspicion)
        return verdict

    def tokens_of(self, choice: int) -> int:
        """Tokens of a choice so far. Unit: tokens."""
        return self._counts.get(choice, 0)

    def judge_whole(self, sample: Sample, *, watch: bool) -> Verdict:
        """
        Judge one piece of a whole answer; it is then in the hold-back window, without bytes.

        Args:
            sample: What it says.
            watch: As of `judge`.
        """
        tokens = self._account((sample,))
        verdict = self._observe((sample,)) if watch else CLEAN
        if (suspicion := self.monitor.suspicion) != self._suspicion:
            self._suspicion = suspicion
            self.record.suspect(suspicion)
        self.hold.push(Held(b"", "", tokens, self._counts[sample.choice], sample.choice))
        return verdict

    def _observe(self, samples: Sequence[Sample]) -> Verdict:
        verdict = self.monitor.observe(samples)
        return verdict if self.wary is None else self.wary.temper(verdict)

    def doubts(self, verdict: Verdict) -> bool:
        """Whether a verdict is not the policy's own, but rests on its replica being suspect."""
        return self.wary is not None and verdict is self.wary.doubt

    def trust(self) -> None:
        """From here on it is judged like any other."""
        if self.wary is not None:
            self.wary.drop()
            self.wary = None

    def end_choice(self, choice: int, onset_token: int, event: bytes) -> None:
        """Drop what is held of a choice from its onset on, and all that will come; `event` tells the client."""
        self.tokens_dropped += self.hold.drop_choice(choice, onset_token)
        self.hold.push(Held(event, "", 0, 0, choice))
        self.ended.add(choice)
        self.finished.add(choice)
        self.unfinished.discard(choice)
        self.monitor.forget(choice)

    @property
    def latest(self) -> bytes:
        """Data of the latest event that speaks of one choice."""
        return self._data if self._plain is None else self._plain.json

    def _is_dropped(self, chunk: Chunk, tokens: int) -> bool:
        """Whether the chunk is of a choice that was ended."""
        dropped = [choice.index in self.ended for choice in chunk.choices]
        if not any(dropped):
            return False
        if not all(dropped):
            raise ProtocolError("one chunk speaks of a choice that was ended and of another", where="$.choices")
        self.tokens_dropped += tokens
        return True

    def _account(self, samples: Sequence[Sample]) -> int:
        if self._tapes is not None:
            self._tapes.add(samples)
        record, counts = self.record, self._counts
        accepted, drafted = record.accepted, record.drafted
        tokens, room = 0, MAX_STEPS - len(accepted)
        for sample in samples:
            tokens += sample.tokens
            counts[sample.choice] = counts.get(sample.choice, 0) + sample.tokens
            for channel, text in sample.texts:
                if channel is not _CONTENT and text and not self.fragile:
                    self.fragile = "a tool call was begun" if channel is Channel.TOOL else _REASONING
            for step in sample.steps:
                if room > 0:
                    room -= 1
                    accepted.append(step.accepted)
                    drafted.append(step.drafted)
        record.tokens += tokens
        return tokens

    def _note_ends(self, chunk: Chunk) -> int | None:
        """Keep account of the choices' ends; the choice that the engine itself ended for repetition, if any."""
        repeats = None
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                self.finished.add(choice.index)
                self.unfinished.discard(choice.index)
                if choice.finish_reason == REPETITION:
                    repeats = choice.index
            elif choice.index not in self.finished:
                self.unfinished.add(choice.index)
        return repeats


def _content_text(samples: Sequence[Sample]) -> str:
    """The content text of choice 0: what a resume would continue."""
    said = ""
    for sample in samples:
        if sample.choice == 0:
            for channel, text in sample.texts:
                if channel is _CONTENT:
                    said = said + text if said else text
    return said


_CALM: Final = (Action.PASS, Action.HOLD)
_NOTHING: Final = Judged(None, (), CLEAN, None, calm=True)
