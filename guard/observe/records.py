"""
The latest exchanges, kept in memory for /guard/requests/{id}.

Those with a verdict or a fault have room of their own, so that a flood of healthy answers does not push out
the one that is looked for. Verify steps are kept in two bytes each, whole.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.rescore.compare import CacheVerdict

_ORDINARY = frozenset({Outcome.HEALTHY, Outcome.RELAYED, Outcome.CLIENT_GONE})


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """A record without its verify steps, and these packed: accepted, and drafted plus 1, of each attempt."""

    number: int
    record: ExchangeRecord
    steps: tuple[tuple[bytes, bytes], ...]


class RecordStore:
    """
    A bounded map from request id to record; the oldest go first.

    Args:
        capacity: Records kept of ordinary exchanges, and again of notable ones.
    """

    def __init__(self, capacity: int = 512) -> None:
        if capacity < 1:
            raise ValueError(f"a record store needs room for at least 1 record, not {capacity}")
        self._capacity = capacity
        self._ordinary: OrderedDict[str, _Kept] = OrderedDict()
        self._notable: OrderedDict[str, _Kept] = OrderedDict()
        self._number = 0

    def add(self, record: ExchangeRecord) -> None:
        """Keep one record; a second exchange under the same request id replaces the first."""
        self._number += 1
        self._ordinary.pop(record.request_id, None)
        self._notable.pop(record.request_id, None)
        ring = self._notable if is_notable(record) else self._ordinary
        ring[record.request_id] = _pack(self._number, record)
        while len(ring) > self._capacity:
            ring.popitem(last=False)

    def get(self, request_id: str) -> ExchangeRecord | None:
        """The record of that request, if it is still kept."""
        kept = self._notable.get(request_id) or self._ordinary.get(request_id)
        return _unpack(kept) if kept is not None else None

    def latest(
        self, count: int, *, notable: bool = False, wanted: Callable[[ExchangeRecord], bool] | None = None
    ) -> list[ExchangeRecord]:
        """
        Up to `count` records, newest first.

        Args:
            count: Most of them.
            notable: Only those with a verdict or a fault.
            wanted: Which; it sees records without verify steps.
        """
        found = (kept for kept in self._newest(notable) if wanted is None or wanted(kept.record))
        return [_unpack(kept) for kept in islice(found, count)]

    def _newest(self, notable: bool) -> Iterator[_Kept]:
        """Both rings as one, by the order in which they were added."""
        rings = [self._notable] if notable else [self._notable, self._ordinary]
        return heapq.merge(*(reversed(ring.values()) for ring in rings), key=lambda kept: -kept.number)


def is_notable(record: ExchangeRecord) -> bool:
    """Whether somebody may want to look at an exchange: a verdict, a fault, or another end than a good one."""
    if record.outcome not in _ORDINARY:
        return True
    return any(attempt.kind is not None or attempt.fault or _proven_wrong(attempt) for attempt in record.attempts)


def _proven_wrong(attempt: AttemptRecord) -> bool:
    return attempt.audit is not None and attempt.audit.verdict is CacheVerdict.WRONG


def _pack(number: int, record: ExchangeRecord) -> _Kept:
    bare: list[AttemptRecord] = []
    steps: list[tuple[bytes, bytes]] = []
    for attempt in record.attempts:
        try:
            packed = bytes(attempt.accepted), bytes([depth + 1 for depth in attempt.drafted])
        except ValueError:  # deeper than any draft is
            packed = b"", b""
            bare.append(attempt)
        else:
            bare.append(msgspec.structs.replace(attempt, accepted=[], drafted=[]))
        steps.append(packed)
    return _Kept(number, msgspec.structs.replace(record, attempts=bare), tuple(steps))


def _unpack(kept: _Kept) -> ExchangeRecord:
    attempts = [
        msgspec.structs.replace(attempt, accepted=list(accepted), drafted=[depth - 1 for depth in drafted])
        if accepted
        else attempt
        for attempt, (accepted, drafted) in zip(kept.record.attempts, kept.steps, strict=True)
    ]
    return msgspec.structs.replace(kept.record, attempts=attempts)
