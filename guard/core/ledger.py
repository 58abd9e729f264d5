"""
The two accounts of an exchange: tokens the client was shown, as if there had been one attempt, and tokens
burned, by attempt. Each token generated is in exactly one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from guard.core.attempt import Attempt
from guard.core.holdback import Held
from guard.core.record import AttemptRecord, ExchangeRecord


class Ledger:
    """
    Keeps the token counts of a record.

    Args:
        record: Whose counts.
        started_at: Arrival of the request. Unit: seconds of the exchange's clock.
    """

    def __init__(self, record: ExchangeRecord, started_at: float) -> None:
        self._record = record
        self._started_at = started_at
        self._waits_since: float | None = None
        #: When text last left for the client; nan before.
        self._sent_at = math.nan
        #: Longest gap before what only passed since the last account.
        self._gap = 0.0

    def begun(self, attempt: AttemptRecord, now: float) -> None:
        """A further attempt was asked for."""
        attempt.started = now - self._started_at
        self._record.attempts.append(attempt)

    def arrived(self, now: float) -> None:
        """Something an attempt generated arrived."""
        if self._record.ttft_upstream is None:
            self._record.ttft_upstream = now - self._started_at

    def held(self, tokens: int, left: int, now: float) -> None:
        """So many tokens waited, and so many do still. Unit: tokens."""
        self._record.held_tokens_max = max(self._record.held_tokens_max, tokens)
        if left or self._waits_since is not None:
            self._waits(left, now)

    def shown(self, attempt: Attempt, released: Sequence[Held], now: float) -> None:
        """Chunks of an attempt leave for the client."""
        tokens = released[0].tokens if len(released) == 1 else sum([held.tokens for held in released])
        if tokens:
            if math.isnan(self._sent_at):
                self._record.ttft_delivered = now - self._started_at
            elif now - self._sent_at > self._record.longest_gap:
                self._record.longest_gap = now - self._sent_at
            self._sent_at = now
        self._record.tokens_shown += tokens
        attempt.record.tokens_shown += tokens

    def passed(self, now: float) -> None:
        """A chunk with text leaves for the client; what it comes to is `counted` later."""
        self._gap = max(self._gap, now - self._sent_at)  # nan is never more
        self._sent_at = now

    def passed_beside(self, first: float, last: float, gap: float) -> None:
        """Chunks with text have left for the client: times of the first and the last, the longest gap between two."""
        self._gap = max(self._gap, first - self._sent_at, gap)  # nan is never more
        self._sent_at = last

    def counted(self, attempt: AttemptRecord, tokens: int) -> None:
        """So many tokens had left for the client. Unit: tokens."""
        self._record.tokens_shown += tokens
        attempt.tokens_shown += tokens
        self._record.longest_gap = max(self._record.longest_gap, self._gap)

    def _waits(self, tokens: int, now: float) -> None:
        if tokens:
            if self._waits_since is None:
                self._waits_since = now
        elif self._waits_since is not None:
            self._record.held_seconds += now - self._waits_since
            self._waits_since = None

    def taken_back(self) -> None:
        """What was only gathered for a body that will not be sent was never shown."""
        self._record.tokens_shown = 0
        for attempt in self._record.attempts:
            attempt.tokens_shown = 0

    def settle(self) -> None:
        """What was not shown until now counts as burned; may be called again when more was shown."""
        for attempt in self._record.attempts:
            attempt.tokens_burned = max(attempt.tokens - attempt.tokens_shown, 0)
        self._record.tokens_burned = sum(attempt.tokens_burned for attempt in self._record.attempts)

    def closed(self, now: float) -> None:
        """The exchange is over."""
        self.settle()
        self._waits(0, now)
        self._record.duration = now - self._started_at
