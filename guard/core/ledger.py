"""The account of an exchange's tokens: each one generated is shown to the client or burned."""

from __future__ import annotations

from collections.abc import Sequence

from guard.core.attempt import Attempt
from guard.core.holdback import Held
from guard.core.record import ExchangeRecord


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

    def arrived(self, now: float) -> None:
        """Something an attempt generated arrived."""
        if self._record.ttft_upstream is None:
            self._record.ttft_upstream = now - self._started_at

    def held(self, tokens: int) -> None:
        """So many tokens wait. Unit: tokens."""
        self._record.held_tokens_max = max(self._record.held_tokens_max, tokens)

    def shown(self, attempt: Attempt, released: Sequence[Held], now: float) -> None:
        """Chunks of an attempt leave for the client."""
        tokens = sum(held.tokens for held in released)
        if tokens and self._record.ttft_delivered is None:
            self._record.ttft_delivered = now - self._started_at
        self._record.tokens_shown += tokens
        attempt.record.tokens_shown += tokens

    def burned(self, attempt: Attempt) -> None:
        """What an attempt still holds will never be shown."""
        self._record.tokens_burned += attempt.hold.tokens
        attempt.hold.drop()

    def taken_back(self) -> None:
        """What was only gathered for a body that will not be sent counts as burned."""
        self._record.tokens_burned += self._record.tokens_shown
        self._record.tokens_shown = 0
        for attempt in self._record.attempts:
            attempt.tokens_shown = 0

    def closed(self, attempt: Attempt | None, now: float) -> None:
        """The exchange is over."""
        if attempt is not None:
            self._record.tokens_burned += attempt.tokens_dropped
        self._record.duration = now - self._started_at
