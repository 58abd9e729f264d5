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

from guard.core.attempt import Attempt, Judged
from guard.core.delivery import delivery_for
from guard.core.events import (
    AbortAttempt,
    ClientGone,
    Command,
    Event,
    Finish,
    Observed,
    OpenAttempt,
    SendBody,
    SendHead,
    UpstreamData,
    UpstreamEnd,
    UpstreamFailed,
    UpstreamHead,
)
from guard.core.factory import Shown, make_attempt, resume_blocker
from guard.core.failure import Failure, of_error_event, of_fault, of_verdict
from guard.core.holdback import MAX_HELD_BYTES, Held
from guard.core.ledger import Ledger
from guard.core.phases import LEGAL, Phase
from guard.core.record import ExchangeRecord, Outcome
from guard.core.settings import ExchangeSettings, Target
from guard.errors import ProtocolError, UpstreamError
from guard.proto.client import ClientRequest
from guard.proto.request import stream_hazards
from guard.proto.sse import SseEvent
from guard.retry.planner import Plan, Situation, Step, plan
from guard.types import Action, Kind, Verdict


class Exchange:
    """
    See the module.

    Args:
        request: The parsed client request.
        settings: Policy and wishes.
        now: Arrival time. Unit: seconds of the caller's monotonic clock.
    """

    def __init__(self, request: ClientRequest, settings: ExchangeSettings, now: float) -> None:
        policy = settings.judge.policy
        self._request = request
        self._settings = settings
        self._policy = policy
        self._now = now
        self._phase = Phase.OPENING
        self._attempt: Attempt | None = None
        self._number = 0
        self._mode = "first"
        self._watching = True
        self._relays = False
        self._shown = Shown()
        self._opening = request.stream and request.family.opening_waits
        self._delivery = delivery_for(request, policy.name, settings.max_event_bytes)
        #: Set while somebody listens to the live feed.
        self.live = False
        self.record = ExchangeRecord(
            settings.request_id, request.route, request.model, policy.name, stream=request.stream
        )
        self._ledger = Ledger(self.record, now)

    @property
    def _is_closing(self) -> bool:
        return self._phase is Phase.CLOSING

    @property
    def done(self) -> bool:
        """Whether Finish was given."""
        return self._phase is Phase.DONE

    def start(self) -> list[Command]:
        """The first command. Call once."""
        return self._open("first")

    def begin(self, target: Target) -> bytes:
        """
        The body of the attempt just asked for, now that its replica is known.

        Args:
            target: The replica chosen.

        Returns:
            JSON to POST to the request's own route.
        """
        attempt, body = make_attempt(
            self._request, self._settings, target, number=self._number, mode=self._mode, shown=self._shown
        )
        self._attempt = attempt
        self.record.attempts.append(attempt.record)
        if self._mode != "resume":
            self._delivery.begin(target.engine)
        if stream_hazards(self._request, target.engine):
            # Only the backend itself can give this answer whole: passed on unwatched.
            self._relays = True
            return self._request.raw
        return body

    def handle(self, event: Event, now: float) -> list[Command]:
        """
        Take one event.

        Args:
            event: What happened. Events of an attempt that is no longer current are ignored.
            now: When. Unit: seconds of the clock given at the start.

        Returns:
            What to do, in order.
        """
        self._now = now
        if self._phase is Phase.DONE:
            return []
        if isinstance(event, ClientGone):
            return self._on_client_gone()
        if event.attempt != self._number:
            return []
        assert type(event) in LEGAL[self._phase], f"{event} in phase {self._phase}"
        match event:
            case UpstreamHead():
                return self._on_head(event)
            case UpstreamData(data=data):
                return self._on_data(data)
            case UpstreamEnd():
                return self._on_end()
            case UpstreamFailed(fault=fault):
                return self._on_fault(fault, alive=False)

    def _on_client_gone(self) -> list[Command]:
        if self._phase is not Phase.CLOSING:
            self.record.outcome = Outcome.CLIENT_GONE
        return [*self._abort("client gone"), *self._finish()]

    def _on_head(self, event: UpstreamHead) -> list[Command]:
        attempt = self._current()
        attempt.head = event.headers
        content_type = next((v for k, v in event.headers if k == "content-type"), "")
        if not self._relays and event.status == 200 and content_type.startswith("text/event-stream"):
            self._phase = Phase.STREAMING
            return []
        if self._number > 1:
            fault = UpstreamError("status", f"attempt {self._number} was answered {event.status}")
            return self._on_fault(fault, alive=True)
        self._phase = Phase.RELAYING
        self.record.outcome, self.record.status = Outcome.RELAYED, event.status
        return [SendHead(event.status, (("x-guard-policy", self._policy.name), *event.headers))]

    def _on_data(self, data: bytes) -> list[Command]:
        if self._phase is Phase.RELAYING:
            return [SendBody(data)]
        if self._phase is Phase.CLOSING:
            return []
        attempt = self._current()
        try:
            events = attempt.feed(data)
        except ProtocolError as error:
            return self._on_fault(UpstreamError("protocol", str(error)), alive=True)
        return self._on_events(attempt, events)

    def _on_events(self, attempt: Attempt, events: list[SseEvent]) -> list[Command]:
        out: list[Command] = []
        try:
            for event in events:
                judged = attempt.judge(event, watch=self._watching)
                out += self._on_judged(event, judged)
                if judged.closing is not None and self._phase is Phase.STREAMING:
                    return [*out, *self._complete(judged.closing)]
                if self._phase is not Phase.STREAMING:
                    return out
        except ProtocolError as error:
            return [*out, *self._on_fault(UpstreamError("protocol", str(error)), alive=True)]
        return [*out, *self._release()]

    def _on_judged(self, event: SseEvent, judged: Judged) -> list[Command]:
        if judged.chunk is not None and judged.chunk.error is not None:
            return self._on_error_event(event)
        if not judged.samples:
            return self._on_verdict(judged.verdict)
        self._ledger.arrived(self._now)
        out: list[Command] = []
        if self.live:
            out.append(Observed(self._number, tuple(judged.samples), self._current().monitor.suspicion))
        return out + self._on_verdict(judged.verdict)

    def _on_end(self) -> list[Command]:
        attempt = self._current()
        attempt.open = False
        if self._phase is not Phase.STREAMING:
            return self._finish()
        return self._on_stream_end(attempt)

    def _on_stream_end(self, attempt: Attempt) -> list[Command]:
        out = self._on_events(attempt, attempt.last_events())
        if self._phase is Phase.CLOSING:
            return [*out, *self._finish()]
        if self._phase is not Phase.STREAMING:
            return out
        if attempt.pending or not attempt.finish_reasons_complete:
            fault = UpstreamError("truncated", "the stream ended before its answer did")
            return [*out, *self._on_fault(fault, alive=False)]
        out += self._complete(b"")
        return [*out, *self._finish()] if self._is_closing else out

    def _on_error_event(self, event: SseEvent) -> list[Command]:
        """The backend itself reports a failure in its stream: passed on as it is, nothing added."""
        self._current().record.fault = "status"
        self.record.outcome = Outcome.UPSTREAM_ERROR
        out = self._abort("backend reported an error")
        if self._request.stream:
            out = [*self._flush(), *out]
            return [*out, *self._send([Held(event.raw, "", 0, 0)]), *self._finish()]
        failure = of_error_event(event.data or b"")
        return [*out, *self._delivery.fail(failure, self.record), *self._finish()]

    def _on_fault(self, fault: UpstreamError, *, alive: bool) -> list[Command]:
        """The attempt is lost through transport or protocol. `alive`: it still has to be closed."""
        attempt = self._attempt
        out: list[Command] = []
        if attempt is None or attempt.record.number != self._number:
            return self._fail(Outcome.UPSTREAM_ERROR, of_fault(fault))
        attempt.record.fault = fault.kind
        attempt.record.reason = attempt.record.reason or fault.message
        if alive:
            out = self._abort(str(fault))
        attempt.open = False
        if self._phase is Phase.CLOSING:
            return [*out, *self._finish()]
        if self._phase is Phase.RELAYING:
            self.record.outcome = Outcome.UPSTREAM_ERROR
            return [*out, *self._finish(whole=False)]
        # What was judged good before the fault is the client's.
        if attempt.monitor.suspicion < self._policy.hold_back.hold_at and not self._only_opened(attempt):
            out += self._flush()
        decision = self._plan(None, alive=False)
        if decision.step in (Step.RESTART, Step.RESUME):
            return [*out, *self._again(decision)]
        return [*out, *self._fail(Outcome.UPSTREAM_ERROR, of_fault(fault))]

    def _on_verdict(self, verdict: Verdict) -> list[Command]:
        if verdict.action in (Action.PASS, Action.HOLD):
            return []
        attempt = self._current()
        if verdict.action is Action.NOTE:
            # Watching goes on: a rule that does more than note may still act.
            attempt.record.note(verdict)
            if self.record.outcome is Outcome.HEALTHY:
                self.record.outcome, self.record.plan_reason = Outcome.NOTED, "the policy only notes"
            return []
        attempt.record.judge(verdict)
        if verdict.action is Action.CUT:
            return self._cut(verdict, "the policy cuts", "guard_cut")
        decision = self._plan(verdict.kind, alive=True)
        if decision.step is Step.PASS:
            return self._let_pass(decision.reason)
        if decision.step is Step.CUT:
            return self._cut(verdict, decision.reason, "guard_exhausted")
        out = self._abort(verdict.reason)
        self.record.outcome = Outcome.RESCUED
        return [*out, *self._again(decision)]

    def _let_pass(self, reason: str) -> list[Command]:
        self.record.outcome, self.record.plan_reason = Outcome.NOTED, reason
        self._watching = False
        return self._flush()

    def _cut(self, verdict: Verdict, reason: str, code: str) -> list[Command]:
        attempt = self._current()
        ended = self._end_choice(attempt, verdict, reason)
        if ended is not None:
            return ended
        if self._request.n > 1:
            attempt.hold.drop_choice(verdict.choice, verdict.onset_token)
            out = self._flush()
        else:
            out = self._send(attempt.hold.take_before(verdict.onset_token))
        self.record.plan_reason = reason
        failure = of_verdict(verdict, code=code, attempts=self._number, reason=reason)
        outcome = Outcome.EXHAUSTED if code == "guard_exhausted" else Outcome.CUT
        return [*out, *self._fail(outcome, failure)]

    def _end_choice(self, attempt: Attempt, verdict: Verdict, reason: str) -> list[Command] | None:
        """End the bad choice alone, if there are others and the protocol has a way to; None if not."""
        if len(attempt.ended) + 1 >= self._request.n:
            return None
        event = self._request.family.end_choice(attempt.latest, verdict.choice)
        if not event:
            return None
        attempt.end_choice(verdict.choice, verdict.onset_token, event)
        self.record.outcome, self.record.plan_reason = Outcome.CUT, f"choice {verdict.choice} was ended: {reason}"
        return []

    def _plan(self, kind: Kind | None, *, alive: bool) -> Plan:
        attempt = self._current()
        return plan(
            Situation(
                attempts_made=self._number,
                max_attempts=self._policy.max_attempts(kind),
                text_released=self._delivery.text_released,
                resume_blocker=resume_blocker(self._request, attempt.target.engine, self._shown),
                when_exhausted=self._policy.when_exhausted,
                attempt_alive=alive,
            )
        )

    def _again(self, decision: Plan) -> list[Command]:
        self._ledger.burned(self._current())
        if decision.step is Step.RESTART:
            self._ledger.taken_back()
        return self._open(decision.step.value)

    def _release(self) -> list[Command]:
        attempt = self._current()
        held_tokens = attempt.hold.tokens
        if self._only_opened(attempt):
            return []
        self._ledger.held(held_tokens)
        # An attempt that was let pass is no longer suspected, whatever its last score was.
        suspicion = attempt.monitor.suspicion if self._watching else 0.0
        released = attempt.hold.release(suspicion)
        if suspicion >= self._policy.hold_back.hold_at and len(attempt.hold):
            attempt.record.held_from_token = attempt.record.held_from_token or attempt.record.tokens
        return self._send(released)

    def _only_opened(self, attempt: Attempt) -> bool:
        """Whether nothing but the opening of an answer was read, in a family where it waits for text."""
        if not self._opening or self._delivery.text_released or attempt.hold.tokens:
            return False
        self._opening = attempt.hold.size < MAX_HELD_BYTES
        # An opening that went before its text cannot be taken back by a restart.
        self._delivery.text_released = not self._opening
        return self._opening

    def _flush(self) -> list[Command]:
        return self._send(self._current().hold.flush())

    def _send(self, released: list[Held]) -> list[Command]:
        if not released:
            return []
        attempt = self._current()
        self._ledger.shown(attempt, released, self._now)
        if self._request.stream:
            self._shown.note(released, attempt)
        return self._delivery.send(released, attempt.head)

    def _complete(self, closing: bytes) -> list[Command]:
        attempt = self._current()
        attempt.finish()
        out = self._flush()
        try:
            out += self._delivery.complete(closing, attempt.head, self.record)
        except ProtocolError as error:
            return [*out, *self._on_fault(UpstreamError("protocol", str(error)), alive=attempt.open)]
        self._phase, self.record.status = Phase.CLOSING, 200
        return out

    def _fail(self, outcome: Outcome, failure: Failure) -> list[Command]:
        self.record.outcome, self.record.status = outcome, 200 if self._delivery.started else failure.status
        if self._attempt is not None:
            self._ledger.burned(self._attempt)
        if not self._delivery.started:
            self._ledger.taken_back()
        out = self._abort(failure.message)
        return [*out, *self._delivery.fail(failure, self.record), *self._finish()]

    def _open(self, mode: str) -> list[Command]:
        self._number += 1
        self._mode, self._phase = mode, Phase.OPENING
        return [OpenAttempt(self._number)]

    def _abort(self, reason: str) -> list[Command]:
        attempt = self._attempt
        if attempt is None or not attempt.open:
            return []
        attempt.open = False
        return [AbortAttempt(attempt.record.number, reason, attempt.rid)]

    def _finish(self, *, whole: bool = True) -> list[Command]:
        self._phase = Phase.DONE
        self._ledger.closed(self._attempt, self._now)
        return [Finish(whole)]

    def _current(self) -> Attempt:
        assert self._attempt is not None
        return self._attempt
