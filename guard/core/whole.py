"""
Answers that are read whole: judged when they are there, not while they are made.

Two kinds are. What only the backend can give whole is asked so from the start. And an answer put together from a
stream may turn out to be one that the backend would have given otherwise at once (its gatherer is `unsure`): then it is
asked for once more, whole; should that fail, be refused or turn out bad, the client gets the one put together.
"""

from __future__ import annotations

import abc

from guard.core.attempt import Attempt
from guard.core.confirm import Confirming
from guard.core.events import Command, SendBody, SendHead, UpstreamHead
from guard.core.failure import of_fault
from guard.core.holdback import MAX_HELD_BYTES
from guard.core.phases import Phase
from guard.core.record import Outcome
from guard.errors import ProtocolError, UpstreamError
from guard.types import Action, Verdict

#: `AttemptRecord.mode` of the second kind.
WHOLE = "whole"
#: Refusals that are no answer to the request itself.
_NOT_OF_THE_REQUEST = frozenset({401, 403, 408, 429})


class WholeAnswers(Confirming, abc.ABC):
    """The part of an exchange that reads whole answers."""

    #: The attempt whose answer was put together, while the same is asked for whole.
    _first: Attempt | None = None

    def _looks_again(self, closing: bytes) -> list[Command] | None:
        """Ask for the answer whole, if what was put together is not sure to be the backend's own; None if it is."""
        why = self._delivery.unsure(closing) if self._settings.second_look and self._mode != WHOLE else ""
        if not why:
            return None
        attempt = self._current()
        attempt.open = False  # it was read to its end
        self._first, self.record.second_look = attempt, why
        return self._open(WHOLE)

    def _first_look(self) -> list[Command]:
        """The second look came to nothing: what was put together is the answer."""
        attempt, self._first = self._first, None
        assert attempt is not None
        out = self._abort("the answer put together is used")
        self._attempt = attempt
        self._ledger.settle()
        try:
            out += self._delivery.complete(b"", attempt.head, self.record)
        except ProtocolError as error:
            return [*out, *self._fail(Outcome.UPSTREAM_ERROR, of_fault(UpstreamError("protocol", str(error))))]
        self.record.status = 200
        return [*out, *self._finish()]

    def _is_own_answer(self, event: UpstreamHead) -> bool:
        """
        Whether a further attempt was answered by a refusal that is the client's: one of the request itself, or, where
        those before were lost on their way, the last that there can be. After a verdict the request is no longer the
        client's own, and what has begun can be no refusal.
        """
        of_request = 400 <= event.status < 500 and event.status not in _NOT_OF_THE_REQUEST
        if self._first is not None:
            return of_request
        if self._number == 1 or event.status < 400 or self._recovery.verdicts or self._delivery.started:
            return False
        return of_request or self._number >= self._policy.max_attempts()

    def _on_whole_data(self, attempt: Attempt, data: bytes) -> list[Command]:
        attempt.body.append(data)
        attempt.body_size += len(data)
        if attempt.body_size <= MAX_HELD_BYTES:
            return []
        # Too large to be kept: the rest goes on as it comes, unwatched.
        if self._first is not None:
            self._first = None
            self._ledger.taken_back()
        self._phase = Phase.RELAYING
        self.record.outcome, self.record.status = Outcome.RELAYED, 200
        body = b"".join(attempt.body)
        attempt.body.clear()
        return [SendHead(200, (("x-guard-policy", self._policy.name), *attempt.head)), SendBody(body)]

    def _on_whole(self, attempt: Attempt) -> list[Command]:
        """All of a whole answer was read."""
        body = attempt.take_body()
        try:
            samples = self._request.family.said(body)
        except ProtocolError as error:
            return self._on_fault(UpstreamError("protocol", str(error)), alive=False)
        out: list[Command] = []
        for sample in samples:
            verdict = attempt.judge_whole(sample, watch=self._watching)
            self._ledger.arrived(self._now)
            if self._first is not None and verdict.action in (Action.RETRY, Action.CUT):
                attempt.record.judge(verdict)
                return [*out, *self._first_look()]
            out += self._on_verdict(verdict)
            if self._phase is not Phase.STREAMING:
                return out
        if self._first is None:
            out += self._last_doubt(attempt)
            if self._phase is not Phase.STREAMING:
                return out
        else:
            self._first = None
            self._ledger.taken_back()
        attempt.finish()
        out += self._flush()
        self._ledger.settle()
        out += self._delivery.pass_whole(body, attempt.head, self.record)
        self.record.status = 200
        return [*out, *self._finish()]

    @abc.abstractmethod
    def _on_fault(self, fault: UpstreamError, *, alive: bool) -> list[Command]: ...

    @abc.abstractmethod
    def _on_verdict(self, verdict: Verdict, *, last: bool = False) -> list[Command]: ...
