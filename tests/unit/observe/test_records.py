"""The record store is bounded and newest first."""

from __future__ import annotations

import pytest

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
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
    second.outcome = Outcome.CUT
    store.add(second)
    assert store.latest(10) == [second]
    store.add(first)
    assert store.latest(10) == [first]
    assert store.latest(10, notable=True) == []


def test_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RecordStore(0)


def test_healthy_ones_do_not_push_out_the_one_that_is_looked_for() -> None:
    store = RecordStore(3)
    bad = record("bad")
    bad.outcome = Outcome.RESCUED
    store.add(record("first"))
    store.add(bad)
    for number in range(10):
        store.add(record(str(number)))
    assert store.get("bad") == bad
    assert [r.request_id for r in store.latest(10)] == ["9", "8", "7", "bad"]
    assert [r.request_id for r in store.latest(10, notable=True)] == ["bad"]
    assert [r.request_id for r in store.latest(2, wanted=lambda r: r.request_id in ("7", "bad"))] == ["7", "bad"]


def test_verify_steps_come_back_whole() -> None:
    store = RecordStore()
    plain = AttemptRecord(1, "a", "vllm", "first", accepted=[0, 3, 5], drafted=[3, -1, 64])
    absurd = AttemptRecord(2, "a", "vllm", "restart", accepted=[300], drafted=[400])
    made = record("r")
    made.attempts = [plain, absurd]
    store.add(made)
    assert store.get("r") == made
