"""The latest exchanges, kept in memory for /guard/requests/{id}."""

from __future__ import annotations

from collections import OrderedDict

from guard.core.record import ExchangeRecord


class RecordStore:
    """
    A bounded map from request id to record; the oldest go first.

    Args:
        capacity: Records kept.
    """

    def __init__(self, capacity: int = 512) -> None:
        if capacity < 1:
            raise ValueError(f"a record store needs room for at least 1 record, not {capacity}")
        self._capacity = capacity
        self._records: OrderedDict[str, ExchangeRecord] = OrderedDict()

    def add(self, record: ExchangeRecord) -> None:
        """Keep one record; a second exchange under the same request id replaces the first."""
        self._records[record.request_id] = record
        self._records.move_to_end(record.request_id)
        while len(self._records) > self._capacity:
            self._records.popitem(last=False)

    def get(self, request_id: str) -> ExchangeRecord | None:
        """The record of that request, if it is still kept."""
        return self._records.get(request_id)

    def latest(self, count: int) -> list[ExchangeRecord]:
        """Up to `count` records, newest first."""
        return list(reversed(self._records.values()))[:count]
