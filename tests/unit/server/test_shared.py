"""A guard on its own keeps for itself what a fleet would share."""

from __future__ import annotations

from guard.clock import VirtualClock
from guard.server.shared import LocalShared
from guard.types import ReplicaId

A = ReplicaId("a")


async def test_counts_slide_and_ejections_end() -> None:
    clock = VirtualClock()
    shared = LocalShared(60.0, clock.now)
    await shared.count_quality(A, "default", 3, 1)
    await shared.eject(A, 30.0, "bad")
    assert await shared.quality() == {A: (3, 1)}
    assert [(name, e.until, e.reason) for name, e in (await shared.ejected()).items()] == [(A, 30.0, "bad")]
    clock.advance(61.0)
    assert await shared.quality() == {}
    assert await shared.ejected() == {}


async def test_retries_are_allowed_and_counted() -> None:
    shared = LocalShared(60.0)
    assert await shared.admit_retry(0)
    assert shared.retries == 1
    await shared.retry_done()
    assert shared.retries == 0
