"""When a verdict waits for a re-scoring, what waits with it, and what then follows."""

from __future__ import annotations

import abc

from guard.core.attempt import Attempt
from guard.core.events import Command, Confirm
from guard.core.passing import Passing
from guard.core.phases import Phase
from guard.policy.schema import Policy
from guard.proto.sse import SseEvent
from guard.rescore.compare import CacheVerdict, Rescored
from guard.types import Verdict


class Pending:
    """
    What waits until the re-scoring is known.

    Args:
        verdict: What the policy decided.
    """

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        #: Events that came together with the one that decided.
        self.rest: list[SseEvent] = []
        #: Whether the attempt's body has ended.
        self.ended = False


def covers(policy: Policy, verdict: Verdict, attempt: Attempt) -> bool:
    """Whether this verdict has to be confirmed: once an attempt at most, and only where it can be."""
    confirm, emitted = policy.confirm, attempt.emitted
    if confirm is None or verdict.kind not in confirm.kinds or emitted is None or attempt.record.confirm is not None:
        return False
    return not emitted.blocker


def leans_on_acceptance(verdict: Verdict) -> bool:
    """Whether acceptance is part of the evidence; without it text alone has spoken already."""
    return any(finding.signal.of_acceptance for finding in verdict.findings)


class Confirming(Passing, abc.ABC):
    """The part of an exchange that asks for a re-scoring and goes on with what it came to."""

    _pending: Pending | None = None

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt, once its replica was known."""
        self._make()
        return self._attempt

    @property
    def policy(self) -> Policy:
        """By which it is judged."""
        return self._policy

    def _ask(self, attempt: Attempt, verdict: Verdict) -> list[Command]:
        self._phase, self._pending = Phase.CONFIRMING, Pending(verdict)
        return [Confirm(attempt.record.number, verdict.onset_token)]

    def _on_confirmed(self, result: Rescored) -> list[Command]:
        """The verdict that waited is acted on, or what text alone says; then what was read meanwhile follows."""
        pending, attempt = self._pending, self._current()
        assert pending is not None
        self._phase, self._pending = Phase.STREAMING, None
        attempt.record.confirm = result
        # Whatever the policy changes, a retry leaves a cache aside that was proven wrong.
        self._shown.bypass = self._shown.bypass or result.verdict is CacheVerdict.WRONG
        verdict = pending.verdict
        if result.verdict is CacheVerdict.RIGHT:
            attempt.trust()
            by_text = attempt.monitor.rest_on_text()
            verdict = by_text if leans_on_acceptance(verdict) else verdict
        out = self._on_verdict(verdict)
        if self._phase is Phase.STREAMING:
            out += self._on_events(attempt, pending.rest)
        if not pending.ended or self._phase in (Phase.OPENING, Phase.DONE):
            return out
        return out + (self._finish() if self.closing else self._on_stream_end(attempt))

    @abc.abstractmethod
    def _on_verdict(self, verdict: Verdict, *, last: bool = False) -> list[Command]: ...

    @abc.abstractmethod
    def _on_events(self, attempt: Attempt, events: list[SseEvent]) -> list[Command]: ...

    @abc.abstractmethod
    def _on_stream_end(self, attempt: Attempt) -> list[Command]: ...
