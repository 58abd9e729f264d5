"""
One client request from arrival to end, over one or more upstream attempts.

A pure state machine: the server feeds events, performs the commands, and asks `begin` for the body
of each attempt. Promises, whatever the order of events:

- every exchange ends with exactly one Finish;
- an attempt is aborted at most once, and never after it ended by itself;
- what the client receives is the released text of one attempt, or of one attempt and its
  continuation: nothing twice, nothing lost;
- after a failure the stream never looks complete.
"""

from __future__ import annotations

from typing import Final

from guard.core.attempt import Attempt, Judged
from guard.core.beginning import Beginning
from guard.core.confirm import covers
from guard.core.events import (
    ClientGone,
    Command,
    Confirmed,
    Event,
    Headers,
    Observed,
    RetryRefused,
    SendBody,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamFailed,
    UpstreamHead,
)
from guard.core.failure import of_fault, of_refusal, of_verdict
from guard.core.monitor import CLEAN
from guard.core.outgoing import NO_ROOM
from guard.core.phases import LEGAL, Phase
from guard.core.record import Outcome
from guard.errors import ProtocolError, UpstreamError
from guard.proto.sse import SseEvent
from guard.retry.planner import Plan, Step
from guard.types import Action, Verdict, WhenExhausted

#: Answers to a first attempt after which another replica is asked, if there is one.
_ASK_ELSEWHERE: Final = frozenset({429, 500, 502, 503, 504})

#: Faults that take nothing from an answer of which all was read.
_LATE: Final = frozenset({"reset", "timeout", "truncated"})

#: Looking a member up in an enumeration takes longer than most of what is done for a chunk.
_STREAMING: Final = Phase.STREAMING


class Exchange(Beginning):
    """
    See the module.

    Args:
        request: The parsed client request.
        settings: Policy and wishes.
        now: Arrival time. Unit: seconds of the caller's monotonic clock.
    """

    def start(self) -> list[Command]:
        """The first command. Call once."""
        return self._open("first")

    def handle(self, event: Event, now: float) -> list[Command]:
        """
        Take one event.

        Args:
            event: What happened. Events of an attempt that is no longer current are ignored.
            now: When. Unit: seconds of the clock given at the start.

        Returns:
            What to do, in order.
        """
        if isinstance(event, UpstreamData):
            return self.data(event.attempt, event.data, now)
        self._make()
        self._now = now
        if self._phase is Phase.DONE:
            return []
        self._catch_up()
        if isinstance(event, ClientGone):
            return self._on_client_gone()
        if event.attempt != self._number:
            return []
        assert type(event) in LEGAL[self._phase], f"{event} in phase {self._phase}"
        match event:
            case UpstreamHead():
                return self._on_head(event)
            case UpstreamEnd():
                return self._on_end()
            case UpstreamFailed(fault=fault):
                return self._on_fault(fault, alive=False)
            case RetryRefused(reason=reason):
                return self._on_refused(reason)
            case Confirmed(result=result):
                return self._on_confirmed(result)

    def read(self, number: int, data: bytes, now: float) -> list[Command]:
        """See Passing."""
        self._now = now
        if number != self._number:
            return []
        if self.due:
            return [*self.look(now), *self.data(number, data, now)]
        if self._passes:
            judged = self._judge_plain(data)
            if judged is not None:
                return judged
            self._passes = False
            if self._passed.last is not None and self._form is not None:
                return self._after_passed(self._form, data)
        if self._phase is not _STREAMING:
            return self._on_other_data(data)
        attempt = self._attempt
        assert attempt is not None
        if attempt.whole:
            return self._on_whole_data(attempt, data)
        try:
            events = attempt.feed(data)
        except ProtocolError as error:
            return self._on_fault(UpstreamError("protocol", str(error)), alive=True)
        return self._on_events(attempt, events)

    def _on_client_gone(self) -> list[Command]:
        if self._phase not in (Phase.CLOSING, Phase.FAILED):
            self.record.outcome = Outcome.CLIENT_GONE
        if not self._delivery.started:
            self._ledger.taken_back()
        return [*self._abort("client gone"), *self._finish()]

    def _on_head(self, event: UpstreamHead) -> list[Command]:
        attempt = self._current()
        attempt.head = event.headers
        content_type = next((v for k, v in event.headers if k == "content-type"), "").lower()
        wanted = "application/json" if attempt.whole else "text/event-stream"
        if event.status == 200 and content_type.startswith(wanted) and not _is_encoded(event.headers):
            self._phase = Phase.STREAMING
            return []
        if self._is_own_answer(event):
            self._first = None
            self._ledger.taken_back()
            return self._relay(event)
        forced = not (self._request.stream or attempt.whole)
        if event.status == 200 and forced and content_type.startswith("text/event-stream"):
            # The stream was the guard's wish, not the client's, who cannot read it.
            return self._on_fault(UpstreamError("protocol", "the stream is compressed, unasked"), alive=True)
        elsewhere = event.elsewhere and event.status in _ASK_ELSEWHERE and self._policy.max_attempts() > 1
        if self._number > 1 or elsewhere:
            fault = UpstreamError("status", f"attempt {self._number} was answered {event.status}", status=event.status)
            return self._on_fault(fault, alive=True)
        return self._relay(event)

    def _relay(self, event: UpstreamHead) -> list[Command]:
        self._phase = Phase.RELAYING
        self.record.outcome, self.record.status = Outcome.RELAYED, event.status
        return [SendHead(event.status, (("x-guard-policy", self._policy.name), *event.headers))]

    def _on_other_data(self, data: bytes) -> list[Command]:
        """Body bytes that are not judged."""
        if self._phase is Phase.DONE:
            return []
        assert UpstreamData in LEGAL[self._phase], f"data in phase {self._phase}"
        if self._phase is Phase.FAILED:
            return self._on_data_after_error(self._current(), data)
        return [SendBody(data)] if self._phase is Phase.RELAYING else []

    def _on_events(self, attempt: Attempt, events: list[SseEvent]) -> list[Command]:
        out: list[Command] = []
        try:
            for place, event in enumerate(events):
                judged = attempt.judge(event, watch=self._watching)
                if judged.calm:  # nearly all there are
                    if judged.samples:
                        self._arrived(judged, out)
                    continue
                out += self._on_judged(event, judged)
                if judged.closing is not None and self._phase is Phase.STREAMING:
                    return [*out, *self._complete(judged.closing)]
                if self._pending is not None:
                    self._pending.rest = events[place + 1 :]
                if self._phase is Phase.FAILED:
                    return out + self._after_error(attempt, events[place + 1 :])
                if self._phase is not Phase.STREAMING:
                    return out
        except ProtocolError as error:
            return [*out, *self._on_fault(UpstreamError("protocol", str(error)), alive=True)]
        released = self._release()
        if self._may_pass and events:
            self._latest = events[-1].raw
        return [*out, *released] if out else released

    def _on_judged(self, event: SseEvent, judged: Judged) -> list[Command]:
        if judged.chunk is not None and judged.chunk.error is not None:
            return self._on_error_event(event)
        out: list[Command] = []
        if judged.samples:
            self._arrived(judged, out)
        return out + self._on_verdict(judged.verdict)

    def _arrived(self, judged: Judged, out: list[Command]) -> None:
        self._ledger.arrived(self._now)
        if self.live:
            out.append(Observed(self._number, tuple(judged.samples), self._current().monitor.suspicion))

    def _on_end(self) -> list[Command]:
        attempt = self._current()
        attempt.open = False
        if self._phase not in (Phase.STREAMING, Phase.FAILED):
            return self._finish()
        return self._on_stream_end(attempt)

    def _on_stream_end(self, attempt: Attempt) -> list[Command]:
        if attempt.whole:
            return self._on_whole(attempt)
        try:
            events = attempt.last_events()
        except ProtocolError as error:
            return self._on_fault(UpstreamError("protocol", str(error)), alive=False)
        if self._phase is Phase.FAILED:
            return self._on_end_after_error(attempt, events)
        out = self._on_events(attempt, events)
        if self._pending is not None:
            self._pending.ended = True
        if self._phase in (Phase.CLOSING, Phase.FAILED):
            return [*out, *self._finish()]
        if self._phase is not Phase.STREAMING:
            return out
        if attempt.pending or not attempt.finish_reasons_complete:
            fault = UpstreamError("truncated", "the stream ended before its answer did")
            return [*out, *self._on_fault(fault, alive=False)]
        out += self._complete(b"")
        return [*out, *self._finish()] if self.closing else out

    def _on_fault(self, fault: UpstreamError, *, alive: bool) -> list[Command]:
        """The attempt is lost through transport or protocol. `alive`: it still has to be closed."""
        attempt = self._attempt
        if self._first is not None:
            if not alive and attempt is not None:
                attempt.open = False
            return self._first_look()
        if attempt is None or attempt.record.number != self._number:
            if attempt is not None and fault.kind == "unavailable":
                return self._on_refused(fault.message)  # the client is told what the one before was lost by
            self.record.plan_reason = fault.message
            return self._fail(Outcome.UPSTREAM_ERROR, of_fault(fault, self._settings.retry_after))
        late = fault.kind in _LATE or (fault.kind == "protocol" and self._request.stream)
        if late and self._phase is _STREAMING and attempt.answered(self._request.n, whole=not self._request.stream):
            # All of the answer was read; only what follows it, or the end of the connection, is not as it should be.
            out = self._abort(str(fault)) if alive else []
            attempt.open = False
            out += self._complete(b"")
            return [*out, *self._finish()] if self.closing else out
        attempt.record.fault = attempt.record.fault or fault.kind
        attempt.record.reason = attempt.record.reason or fault.message
        out = self._abort(str(fault)) if alive else []
        attempt.open = False
        if self._phase is Phase.CLOSING:
            return [*out, *self._finish()]
        if self._phase is Phase.RELAYING:
            self.record.outcome = Outcome.UPSTREAM_ERROR
            return [*out, *self._finish(whole=False)]
        # What was judged good before the fault is the client's.
        attempt.settle(watch=self._watching)
        if attempt.monitor.suspicion < self._policy.hold_back.hold_at and not self._only_opened(attempt):
            out += self._flush()
        if self._phase is Phase.FAILED:
            return [*out, *self._finish()]
        self._recovery.failure = failure = of_fault(fault, self._settings.retry_after)
        decision = self._plan(None, alive=False)
        if decision.step in (Step.RESTART, Step.RESUME):
            return [*out, *self._again(decision)]
        if decision.step is Step.BEST:
            return [*out, *self._end_best(decision.reason)]
        return [*out, *self._fail(Outcome.UPSTREAM_ERROR, failure)]

    def _on_refused(self, reason: str) -> list[Command]:
        """The attempt that was asked for is not made; the one before is lost already."""
        if self._first is not None:
            return self._first_look()
        attempt = self._current()
        self._number -= 1
        self._phase = Phase.STREAMING
        kind = attempt.record.kind
        decision = self._plan(kind, alive=False, refused=reason)
        if decision.step is Step.BEST:
            return self._end_best(decision.reason)
        self.record.plan_reason = reason
        failure = self._recovery.failure or of_refusal(reason)
        kept = self._recovery.latest
        out = self._send(list(kept.held)) if kept is not None and kind is not None and self._request.stream else []
        return [*out, *self._fail(Outcome.EXHAUSTED if kind else Outcome.UPSTREAM_ERROR, failure)]

    def _on_verdict(self, verdict: Verdict, *, last: bool = False) -> list[Command]:
        if verdict is CLEAN or verdict.action in (Action.PASS, Action.HOLD):
            return []
        attempt = self._current()
        if attempt.doubts(verdict) and not self._mends(attempt, verdict):
            attempt.trust()
            return []
        if verdict.action is Action.NOTE:
            # Watching goes on: a rule that does more than note may still act.
            attempt.record.note(verdict)
            if self.record.outcome is Outcome.HEALTHY:
                self.record.outcome, self.record.plan_reason = Outcome.NOTED, "the policy only notes"
            return []
        if not last and covers(self._policy, verdict, attempt):
            return self._ask(attempt, verdict)
        attempt.record.judge(verdict)
        attempt.record.doubted = attempt.doubts(verdict)
        if verdict.action is Action.CUT:
            return self._cut(verdict, "the policy cuts", "guard_cut")
        self._recovery.keep(attempt, verdict, begun=self._delivery.text_released)
        ahead = self._policy.when_exhausted is WhenExhausted.PASS and not self.room()
        decision = self._plan(verdict.kind, alive=True, refused=NO_ROOM if ahead else "")
        if decision.step is Step.PASS:
            return self._let_pass(decision.reason)
        if decision.step is Step.CUT:
            return self._cut(verdict, decision.reason, "guard_exhausted")
        if decision.step is Step.BEST:
            return [*self._abort(verdict.reason), *self._end_best(decision.reason)]
        self._recovery.failure = of_verdict(verdict, code="guard_exhausted", attempts=self._number, reason=NO_ROOM)
        out = self._abort(verdict.reason)
        self.record.outcome = Outcome.RESCUED
        return [*out, *self._again(decision)]

    def _again(self, decision: Plan) -> list[Command]:
        self._current().hold.drop()
        if decision.step is Step.RESTART:
            self._ledger.taken_back()
        return self._open(decision.step.value)

    def _complete(self, closing: bytes) -> list[Command]:
        attempt = self._current()
        attempt.finish()
        out = self._last_doubt(attempt)
        if self._phase is not Phase.STREAMING:
            return out
        out += self._flush()
        again = self._looks_again(closing)
        if again is not None:
            return out + again
        self._ledger.settle()
        try:
            out += self._delivery.complete(closing, attempt.head, self.record)
        except ProtocolError as error:
            return [*out, *self._on_fault(UpstreamError("protocol", str(error)), alive=attempt.open)]
        self._phase, self.record.status = Phase.CLOSING, 200
        return out


def _is_encoded(headers: Headers) -> bool:
    return any(name == "content-encoding" and value.lower() != "identity" for name, value in headers)
