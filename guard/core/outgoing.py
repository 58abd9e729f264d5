"""
The client's side of an exchange: what is held and released, and the ways in which it ends.

`core.exchange` decides; here is what its decisions come to.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Final

import msgspec

from guard.core.attempt import Attempt
from guard.core.delivery import delivery_for
from guard.core.events import AbortAttempt, Command, Finish, OpenAttempt
from guard.core.factory import Asked, Shown
from guard.core.failure import Failure, of_fault, of_verdict
from guard.core.holdback import MAX_HELD_BYTES, Held
from guard.core.ledger import Ledger
from guard.core.phases import Phase
from guard.core.record import ExchangeRecord, Outcome
from guard.core.recovery import Recovery
from guard.core.settings import ExchangeSettings
from guard.errors import ProtocolError, UpstreamError
from guard.proto.client import ClientRequest
from guard.retry.planner import Plan, Step, plan
from guard.types import Kind, Verdict

#: Most of a model's name that is kept: a client may write as much as a body may have, and records, logs, metrics and
#: the shared store would all hold it. Unit: characters.
MAX_MODEL: Final = 512

#: Looking a member up in an enumeration takes longer than the question.
_DONE: Final = Phase.DONE
#: Why a retry is refused.
NO_ROOM: Final = "the retry budget is used up"


class Outgoing(abc.ABC):
    """
    State of an exchange, and what it sends. See the module.

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
        #: What the attempt just begun asks for, until it is made.
        self._asked: Asked | None = None
        self._number = 0
        self._mode = "first"
        self._watching = True
        self._shown = Shown()
        self._opening = request.stream and request.family.opening_waits
        self._delivery = delivery_for(request, policy.name, settings.max_event_bytes)
        #: Set while somebody listens to the live feed.
        self.live = False
        #: Whether the retry budget had room when it was last seen. Asked where a refusal would come too late: an
        #: attempt that the policy lets pass must not have been aborted before.
        self.room: Callable[[], bool] = lambda: True
        self.record = ExchangeRecord(
            settings.request_id, request.route, request.model[:MAX_MODEL], policy.name, stream=request.stream
        )
        self._ledger = Ledger(self.record, now)
        self._recovery = Recovery(request, policy, self.record)

    def broke(self, why: str) -> list[Command]:
        """
        Whoever runs the exchange cannot go on, through a defect of its own: it must not be told as healthy.

        Args:
            why: For the record.

        Returns:
            The abort of the attempt, if one is open. Nothing else follows; the client's connection is to be broken off.
        """
        self._make()
        self.record.outcome, self.record.plan_reason = Outcome.UPSTREAM_ERROR, f"the guard itself failed: {why}"
        if self._attempt is not None:
            self._attempt.record.fault = self._attempt.record.fault or "guard"
        out = self._abort("the guard itself failed")
        self._finish(whole=False)
        return out

    def prepare(self) -> None:
        """Make the attempt just begun and what its first words will need, while it has said nothing yet."""
        self._make()
        if self._attempt is not None and self._request.n == 1:
            self._attempt.monitor.prepare()

    @property
    def closing(self) -> bool:
        """Whether the client has the whole answer: how the backend's connection ends tells nothing more."""
        return self._phase is Phase.CLOSING

    @property
    def done(self) -> bool:
        """Whether Finish was given."""
        return self._phase is _DONE

    def _mends(self, attempt: Attempt, verdict: Verdict) -> bool:
        """Whether another attempt would follow a verdict, as far as can be known before it is asked for."""
        record = attempt.record
        shown = max(record.tokens_shown - max(verdict.onset_token - record.began_at, 0), 0)
        refused = "" if self.room() else NO_ROOM
        return self._plan(verdict.kind, alive=True, refused=refused, shown=shown).step in (Step.RESTART, Step.RESUME)

    def _plan(self, kind: Kind | None, *, alive: bool, refused: str = "", shown: int = 0) -> Plan:
        """What follows; `shown` are bad tokens that the client has and the record does not know of yet."""
        situation = self._recovery.situation(
            self._current(),
            self._shown,
            number=self._number,
            kind=kind,
            released=self._delivery.text_released,
            alive=alive,
            refused=refused,
        )
        return plan(msgspec.structs.replace(situation, bad_shown=situation.bad_shown + shown) if shown else situation)

    def _last_doubt(self, attempt: Attempt) -> list[Command]:
        """The answer is over: a doubt that still waits for the policy to follow is acted on, if it can be mended."""
        doubt = attempt.wary.doubt if attempt.wary is not None and self._watching else None
        return self._on_verdict(doubt, last=True) if doubt is not None else []

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
        if len(attempt.ended) + 1 >= self._request.n or attempt.whole:
            return None
        event = self._request.family.end_choice(attempt.latest, verdict.choice)
        if not event:
            return None
        attempt.end_choice(verdict.choice, verdict.onset_token, event)
        self.record.outcome, self.record.plan_reason = Outcome.CUT, f"choice {verdict.choice} was ended: {reason}"
        return []

    def _end_best(self, reason: str) -> list[Command]:
        """Deliver the healthy part of the best attempt, marked as one of which text was left out."""
        kept = self._recovery.best
        assert kept is not None
        self._attempt = kept.attempt
        self._delivery.begin(kept.attempt.target.engine)
        self.record.outcome, self.record.plan_reason, self.record.status = Outcome.BEST, reason, 200
        out = self._send([*kept.held, Held(kept.end, "", 0, 0)])
        self._ledger.settle()
        closing = self._request.family.terminal
        try:
            out += self._delivery.complete(closing, kept.attempt.head, self.record)
        except ProtocolError as error:
            fault = UpstreamError("protocol", str(error))
            return [*out, *self._fail(Outcome.UPSTREAM_ERROR, of_fault(fault))]
        return [*out, *self._finish()]

    def _release(self) -> list[Command]:
        attempt = self._attempt
        assert attempt is not None
        held_tokens = attempt.hold.tokens
        if self._opening and self._only_opened(attempt):
            return []
        # An attempt that was let pass is no longer suspected, whatever its last score was.
        suspicion = attempt.monitor.suspicion if self._watching else 0.0
        released = attempt.hold.release(suspicion)
        self._ledger.held(held_tokens, attempt.hold.tokens, self._now)
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
        attempt = self._attempt
        assert attempt is not None
        self._ledger.shown(attempt, released, self._now)
        for held in released:
            if held.tokens or held.text:
                self._recovery.released()
                break
        if self._request.stream:
            self._shown.note(released, attempt)
        return self._delivery.send(released, attempt.head)

    def _fail(self, outcome: Outcome, failure: Failure) -> list[Command]:
        self.record.outcome, self.record.status = outcome, 200 if self._delivery.started else failure.status
        if not self._delivery.started:
            self._ledger.taken_back()
        self._ledger.settle()
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
        self._phase = _DONE
        if self._delivery.started and not self.record.status:  # the head is out, and its answer was broken off
            self.record.status = 200
        self._ledger.closed(self._now)
        return [Finish(whole)]

    def _current(self) -> Attempt:
        assert self._attempt is not None
        return self._attempt

    @abc.abstractmethod
    def _make(self) -> None:
        """Make the attempt that was begun, if that is still to be done."""

    @abc.abstractmethod
    def _on_verdict(self, verdict: Verdict, *, last: bool = False) -> list[Command]: ...
