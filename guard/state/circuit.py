"""Whether a store that failed is worth another wait."""

from __future__ import annotations


class Circuit:
    """
    Opens after some failures in a row; only a probe in the background closes it again.

    Args:
        failures: Failures in a row that open it.
    """

    def __init__(self, failures: int) -> None:
        self._limit = failures
        self._failed = 0

    @property
    def closed(self) -> bool:
        """Whether requests may wait for the store."""
        return self._failed < self._limit

    def succeeded(self) -> None:
        """A call was answered in time."""
        self._failed = 0

    def failed(self) -> None:
        """A call failed, or came too late."""
        self._failed += 1
