"""The record store is bounded and newest first."""

from __future__ import annotations

import pytest

from guard.core.record import ExchangeRecord
from guard.observe.records import RecordStore


def record(name: str) -> ExchangeRecord:
    return ExchangeRecord(name, "route", "m", "p", stream=True)


def test_the_oldest_go_first() -> None:
    store = RecordStore(2)
    for name in ("a", "b", "c"):
        store.add(record(name))
    assert store.get("a") is None
    assert [r.request_id for r in store.latest(10)] == ["c", "b"]
    assert [r.request_id for r in store.latest(1)] == ["c"]


def test_a_repeated_id_replaces() -> None:
    store = RecordStore(2)
    first, second = record("a"), record("a")
    store.add(first)
    store.add(second)
    assert store.get("a") is second


def test_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RecordStore(0)
