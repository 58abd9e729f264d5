"""A budget of prefill tokens per second. Time is an argument."""

from __future__ import annotations


class TokenBucket:
    """
    Fills at a steady rate, up to what `burst_seconds` bring.

    Args:
        rate: Unit: tokens per second.
        burst_seconds: Unit: seconds.
    """

    def __init__(self, rate: float, burst_seconds: float = 10.0) -> None:
        self._rate = rate
        self._most = rate * burst_seconds
        self._level = self._most
        self._at: float | None = None

    def take(self, tokens: int, now: float) -> bool:
        """
        Take so many tokens, or none of them.

        A request larger than the whole bucket is served when that is full, and then leaves a debt.

        Args:
            tokens: Unit: tokens.
            now: Unit: seconds of one monotonic clock.
        """
        if self._at is not None:
            self._level = min(self._level + (now - self._at) * self._rate, self._most)
        self._at = now
        if self._level < min(tokens, self._most):
            return False
        self._level -= tokens
        return True
