"""
What the attempts so far leave behind for the next step: the planner's facts, what a retry changes, and
the healthy part of the best of them.

An attempt given up keeps what came before its onset, so that a policy can deliver it when no attempt
turns out well (`when_exhausted: best`), and a refused retry still delivers what was good.
"""

from __future__ import annotations

import msgspec

from guard.core.attempt import Attempt
from guard.core.factory import Shown, resume_blocker
from guard.core.failure import Failure
from guard.core.holdback import Held
from guard.core.record import ExchangeRecord
from guard.policy.schema import Policy
from guard.proto.client import ClientRequest
from guard.retry.planner import Situation
from guard.types import Change, Kind, Verdict, WhenExhausted


class Kept(msgspec.Struct, frozen=True):
    """
    The part of a lost attempt that nothing was found in.

    Args:
        attempt: Whose.
        held: Its chunks up to the onset, none of them sent.
        tokens: In them. Unit: tokens.
        end: Event that ends the answer there in the protocol's own words; empty where it has none.
    """

    attempt: Attempt
    held: tuple[Held, ...]
    tokens: int
    end: bytes


class Recovery:
    """
    See the module.

    Args:
        request: The client's.
        policy: Its policy.
        record: What is kept of the exchange.
    """

    def __init__(self, request: ClientRequest, policy: Policy, record: ExchangeRecord) -> None:
        self._request = request
        self._policy = policy
        self._record = record
        self._kinds: list[Kind] = []
        #: Of the attempt given up last.
        self.latest: Kept | None = None
        #: With the most healthy tokens.
        self.best: Kept | None = None
        #: What the client is told if nothing follows.
        self.failure: Failure | None = None

    @property
    def verdicts(self) -> int:
        """Attempts given up for what they said."""
        return len(self._kinds)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What the next attempt does differently; nothing after transport faults alone, which no change would mend."""
        return tuple(dict.fromkeys(change for kind in self._kinds for change in self._policy.changes(kind)))

    def keep(self, attempt: Attempt, verdict: Verdict, *, begun: bool) -> None:
        """
        An attempt is given up for a verdict; its hold-back window is still full.

        Args:
            attempt: The attempt.
            verdict: Why.
            begun: Whether the client has text, which an end without more would do for.
        """
        if verdict.kind is not None:
            self._kinds.append(verdict.kind)
        self.latest = None
        if self._request.n != 1:
            return
        held = attempt.hold.before(verdict.onset_token)
        end = b"" if attempt.fragile or attempt.whole else self._request.family.end_choice(attempt.latest, 0)
        self.latest = Kept(attempt, tuple(held), sum(one.tokens for one in held), end)
        least = self.best.tokens if self.best is not None else -1 if begun else 0
        if end and self.latest.tokens > least:
            self.best = self.latest

    def released(self) -> None:
        """The client got text: what earlier attempts would have said instead is void."""
        self.best = None

    def situation(
        self,
        attempt: Attempt,
        shown: Shown,
        *,
        number: int,
        kind: Kind | None,
        released: bool,
        alive: bool,
        refused: str,
    ) -> Situation:
        """
        The planner's facts.

        Args:
            attempt: The latest.
            shown: What the client has.
            number: Attempts made.
            kind: What the latest verdict found; None after a fault.
            released: Whether the client has text.
            alive: Whether the latest attempt could go on.
            refused: Why no retry is allowed; empty if it is.
        """
        policy = self._policy
        return Situation(
            attempts_made=number,
            max_attempts=policy.max_attempts(kind),
            text_released=released,
            resume_blocker=resume_blocker(self._request, attempt.target, shown),
            when_exhausted=policy.when_exhausted,
            attempt_alive=alive,
            refused=refused,
            best_kept=policy.when_exhausted is WhenExhausted.BEST and self.best is not None,
            bad_shown=self._record.bad_tokens_shown,
            max_bad_shown=policy.retry.max_bad_shown,
        )
