"""Kinds of leases."""

from __future__ import annotations

from guard.backend.kv.ids import LeaseId, Owner, Party
from guard.backend.kv.lease import WRITES, Kind, Lease


def test_only_receives_and_loads_bring_new_content() -> None:
    assert {Kind.RECEIVE, Kind.LOAD} == WRITES


def test_a_lease_is_a_value() -> None:
    lease = Lease(LeaseId(0), Owner("R", 1), Kind.SEND, (), frozenset({Party("P")}))
    assert lease == Lease(LeaseId(0), Owner("R", 1), Kind.SEND, (), frozenset({Party("P")}))
    assert not lease.suspect
