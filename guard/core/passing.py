"""
Plain chunks of a stream of which nothing is suspected: passed on at once, taken in and judged a few at a time.

Most chunks there are. What is done for one of them is little code, run at the rate of all chunks of the process;
all the rest, which is much, runs once for several of them. Nothing waits: text is only held once something is
suspected, and then goes the long way.

When is the next look due? Detectors of text change their readings at the end of a page of it (64 characters), while
something repeats of a block (16). Mostly acceptance is so far from waking a rule, or the text read so far rules out so
many, that nothing can be suspected before that end unless more is rejected than can be told in advance (the leeway).
The chunk that uses up the text passes, and a look is due: the caller has one made soon (`look`), at the latest before
the next event. The chunk that uses up what may be rejected is judged before it is sent. Where the very next step
could raise suspicion, each chunk whose step kept nothing of its draft is judged before it is sent, and every fourth.
What is not plain always is. At most MOST_UNJUDGED tokens have ever passed whose verify steps were not judged.

Reading text is most of what a look costs. While all is ordinary (see `DetectorBank.is_ordinary`) and acceptance alone
keeps all rules on broken text far from waking, every second look judges the steps and leaves the text to the next one:
at most MOST_UNREAD tokens of it are unread then.

The price: one chunk more is shown where the text alone speaks, and a loop may begin unseen for as long as text is
unread. Where acceptance could speak, suspicion may rise up to three verify steps later, of which the target model
agreed with some.
"""

from __future__ import annotations

import abc
from typing import Final, Protocol

from guard.core.attempt import Attempt
from guard.core.events import Command, SendBody
from guard.core.holdback import Held
from guard.core.monitor import CLEAN, MOST_WAITING, Leeway
from guard.core.outgoing import Outgoing
from guard.core.phases import Phase
from guard.core.settings import ExchangeSettings
from guard.policy.schema import HoldMode
from guard.proto.client import ClientRequest
from guard.proto.plain import PlainForm, Run
from guard.types import Channel, Verdict
from guard.wire import Plain

#: Chunks that pass before the next is judged with them, while acceptance alone could raise suspicion.
MOST_PASSED: Final = 3
#: Tokens that have passed and whose verify steps are not judged yet, at most. Unit: tokens.
MOST_UNJUDGED: Final = 20
#: And whose text is not read yet: one look may leave it to the next. Unit: tokens.
MOST_UNREAD: Final = 2 * MOST_UNJUDGED
#: Between two events. None has it inside: JSON writes line ends as two characters.
_END: Final = b"\n\n"
_SEVERAL: Final = 2
_STREAMING: Final = Phase.STREAMING
_CONTENT: Final = Channel.CONTENT


class Lane(Protocol):
    """
    Takes plain chunks past the exchange, by the rules of `Passing.pass_on`, while it is armed.

    What it has taken it tells once, and lets nothing more pass then.
    """

    def arm(
        self,
        prefix: bytes,
        middle: bytes,
        slack: float,
        share: float,
        room: int,
        unjudged: int,
        most: int,
        most_bytes: int,
        /,
    ) -> None:
        """
        Let chunks pass.

        Args:
            prefix: Of their form, as of PlainForm.
            middle: The same.
            slack: As of Leeway.
            share: The same.
            room: The same.
            unjudged: Tokens that have passed unjudged. Unit: tokens.
            most: As many as may at most. Unit: tokens.
            most_bytes: Of one event.
        """
        ...

    def drain(self) -> tuple[bytes, int, str, bytes, float, float, float, bool, float, int] | None:
        """
        Let nothing pass any more.

        Returns:
            None if nothing has passed. Else: the last event, where its text ends in it; the text of all; accepted,
            drafted and emitted tokens of each step, one byte each; times of the first and the last, the longest gap
            between two; whether a look is due, the slack and the room that are left.
        """
        ...


class Passing(Outgoing, abc.ABC):
    """The part of an exchange that passes plain chunks on. Arguments as of Outgoing."""

    def __init__(self, request: ClientRequest, settings: ExchangeSettings, now: float) -> None:
        super().__init__(request, settings, now)
        #: Whether chunks of this attempt may ever pass, and whether the next one may.
        self._may_pass = self._passes = False
        #: The latest event that went the long way, until it is asked whether the next chunk may pass: by then the
        #: client has it.
        self._latest = b""
        #: Of the latest plain chunk that went the long way.
        self._form: PlainForm | None = None
        #: Passed on, and not yet taken in.
        self._passed = Run()
        #: What may pass before anything can be suspected; None while the next step could raise suspicion.
        self._leeway: Leeway | None = None
        #: Whether what has passed is to be looked at, by `look` or before the next event.
        self.due = False
        #: Takes chunks past the exchange; None where there is none.
        self._lane: Lane | None = None

    def use(self, lane: Lane | None) -> None:
        """Let a lane take chunks past the exchange from now on, and the one before no more."""
        self._from_lane()
        self._lane = lane

    def _arm(self) -> None:
        """Let the lane take the next chunks, if they may pass."""
        lane, form, leeway = self._lane, self._form, self._leeway
        if lane is None or form is None or leeway is None or not self._passes or self.due or self.live:
            return
        most, most_bytes = MOST_UNJUDGED, self._settings.max_event_bytes
        room, unjudged = leeway.room, self._passed.unjudged
        lane.arm(form.prefix, form.middle, leeway.slack, leeway.share, room, unjudged, most, most_bytes)

    def _from_lane(self) -> None:
        """Account for what the lane took, which takes nothing more."""
        lane = self._lane
        taken = lane.drain() if lane is not None else None
        leeway = self._leeway
        if taken is None or leeway is None:
            return
        data, end, text, steps, first, last, gap, due, slack, room = taken
        self._passed.add_all(steps, text, Plain(data, end, "", steps[-1], steps[-3], steps[-2]))
        self.due, leeway.slack, leeway.room = due, slack, room
        self._now = max(self._now, last)  # what is dealt with just now may have come later
        self._ledger.passed_beside(first, last, gap)

    def _begin_passing(self, attempt: Attempt) -> None:
        """A fresh attempt: may its chunks pass at all?"""
        self._from_lane()
        self._passes, self._form, self._latest = False, None, b""
        self._take_passed()
        waits = self._policy.hold_back.mode in (HoldMode.WINDOW, HoldMode.FULL)
        self._may_pass = self._request.stream and self._request.n == 1 and attempt.plain and not waits

    def _may_next(self) -> None:
        """Events went the long way: may the next chunk pass?"""
        attempt, raw = self._current(), self._latest
        self._latest = b""
        if not attempt.monitor.calm or not self._watching or self.live:
            return
        if attempt.hold or attempt.pending or not self._delivery.text_released:
            return
        if self._form is None or self._form.read(raw) is None:
            self._form = PlainForm.of(raw)
        self._passes = self._form is not None
        self._look_ahead(attempt)

    def _look_ahead(self, attempt: Attempt) -> None:
        """What may pass before the next look?"""
        form = self._form
        self._leeway = attempt.leeway(form.channel, MOST_UNJUDGED) if self._passes and form is not None else None

    def _take_passed(self) -> Run:
        """What has passed, and none of it any longer."""
        passed = self._passed
        self._passed, self._leeway, self.due = Run(), None, False
        return passed

    def pass_on(self, number: int, data: bytes, now: float) -> bytes:
        """
        What the client gets of a piece that merely passes; empty, and nothing done, where it has to be read.

        Args: as of `data`. A look may be `due` afterwards.
        """
        if number != self._number:
            return b""
        self._from_lane()
        if self._latest:
            self._may_next()
        form = self._form
        if not self._passes or form is None or self.due or self.live:
            return b""
        plain = form.read(data)
        if plain is None or len(data) > self._settings.max_event_bytes:
            return b""
        passed, leeway, accepted, drafted = self._passed, self._leeway, plain.accepted, plain.drafted
        unjudged = passed.unjudged + plain.tokens
        if unjudged > MOST_UNJUDGED:
            return b""
        if leeway is None:
            # A step that kept nothing of its draft is what speaks of a fault.
            if not accepted or passed.steps >= MOST_PASSED:
                return b""
        else:
            if drafted:
                judged = accepted + 1 if accepted < drafted else accepted
                slack = leeway.slack + accepted - leeway.share * judged
                if slack < 0.0:
                    return b""
                leeway.slack = slack
            leeway.room -= len(plain.text)
            # The next chunk may have as many tokens as its step can give.
            self.due = leeway.room <= 0 or unjudged + drafted >= MOST_UNJUDGED
        self._now = now
        passed.add(plain)
        self._ledger.passed(now)
        if leeway is not None:
            self._arm()
        return form.cut(plain)

    def data(self, number: int, data: bytes, now: float) -> list[Command]:
        """
        The same as to handle `UpstreamData(number, data)`, without an object for every piece.

        Args:
            number: Of the attempt.
            data: Body bytes, cut anywhere.
            now: When. Unit: seconds of the clock given at the start.
        """
        passed = self.pass_on(number, data, now)
        return [SendBody(passed)] if passed else self.read(number, data, now)

    def _one_by_one(self, data: bytes) -> list[Command] | None:
        """
        Where a stall made several events come at once, each may pass by itself; None, and nothing done, if it is one.
        To be asked while chunks pass: what came before was whole events then.
        """
        *events, rest = data.split(_END)
        if len(events) + bool(rest) < _SEVERAL:
            return None
        number, now = self._number, self._now
        out: list[Command] = []
        for event in events:
            out += self.data(number, event + _END, now)
        return out + self.data(number, rest, now) if rest else out

    def look(self, now: float) -> list[Command]:
        """Judge what has passed, if that is due. To be called between two events."""
        self._from_lane()
        form = self._form
        if not self.due or form is None:
            return []
        self._now = now
        if self._text_waits(form):
            return []
        out = self._on_verdict(self._take_in(form))
        if self._phase is _STREAMING:
            attempt = self._current()
            self._passes = attempt.monitor.calm and not attempt.hold
            self._look_ahead(attempt)
            self._arm()
        return out

    def _text_waits(self, form: PlainForm) -> bool:
        """Judge the steps of what has passed alone, if that is enough for now: reading text is nearly all of a look."""
        leeway = self._leeway
        if leeway is None or not leeway.waits:
            return False
        monitor = self._current().monitor
        monitor.take_ahead(self._passed.take())
        found = monitor.slack_alone(form.channel, MOST_UNJUDGED)
        if found is None:
            return False
        self._leeway, self.due = Leeway(MOST_WAITING, *found), False
        self._arm()
        return True

    def _judge_plain(self, data: bytes) -> list[Command] | None:
        """Judge what has passed and plain chunks more before they are sent; None, and nothing done, if it is none."""
        form = self._form
        if form is None or self.live or len(data) > self._settings.max_event_bytes:
            return None
        latest = form.read(data)
        if latest is None:
            return self._one_by_one(data)
        attempt, run = self._current(), self._take_passed()
        before, text, tokens = run.last, run.text, run.tokens
        run.add(latest)
        sample = form.sample(run.text)
        verdict = attempt.take_plain(run, sample)
        cut = form.cut(latest)
        if verdict is CLEAN and attempt.monitor.calm:
            self._ledger.passed(self._now)
            self._gone(attempt, sample.texts[0][1], run.tokens, form, latest)
            self._look_ahead(attempt)
            self._arm()
            return [SendBody(cut)]
        if before is not None:
            self._gone(attempt, text, tokens, form, before)
        return self._suspect(form, latest, cut, verdict)

    def _suspect(self, form: PlainForm, latest: Plain, cut: bytes, verdict: Verdict) -> list[Command]:
        """Something is suspected, or decided: the latest of the chunks goes to the client as any other."""
        attempt = self._current()
        content = latest.text if form.channel is _CONTENT else ""
        attempt.hold.push(Held(cut, content, latest.tokens, attempt.tokens_of(0), 0))
        out = self._on_verdict(verdict)
        if self._phase is not _STREAMING:
            return out
        released = self._release()
        attempt = self._current()
        self._passes = attempt.monitor.calm and not attempt.hold
        self._look_ahead(attempt)
        return [*out, *released] if out else released

    def _take_in(self, form: PlainForm) -> Verdict:
        """Account for what has passed, and judge it."""
        attempt, run = self._current(), self._take_passed()
        last = run.last
        if last is None:
            return CLEAN
        sample = form.sample(run.text)
        verdict = attempt.take_plain(run, sample)
        self._gone(attempt, sample.texts[0][1], run.tokens, form, last)
        return verdict

    def _gone(self, attempt: Attempt, text: str, tokens: int, form: PlainForm, latest: Plain) -> None:
        """Account for what the client got beside the hold-back window: its text, its last event."""
        self._ledger.counted(attempt.record, tokens)
        self._shown.add(text if form.channel is _CONTENT else "", tokens, attempt.fragile)
        self._delivery.passed(form, latest)

    def _after_passed(self, form: PlainForm, data: bytes) -> list[Command]:
        """What has passed is judged before `data`, which is not plain, goes the long way."""
        out = self._on_verdict(self._take_in(form))
        return out + self.data(self._number, data, self._now) if self._phase is _STREAMING else out

    def _catch_up(self) -> None:
        """Something else than a chunk comes: what has passed is accounted for; acting on it would come too late."""
        self._from_lane()
        if self._passed.last is not None and self._form is not None:
            self._take_in(self._form)
        self._passes, self._latest = False, b""

    @abc.abstractmethod
    def read(self, number: int, data: bytes, now: float) -> list[Command]:
        """As of `data`, what does not merely pass: after `pass_on` gave nothing."""

    @abc.abstractmethod
    def _on_verdict(self, verdict: Verdict, *, last: bool = False) -> list[Command]: ...
