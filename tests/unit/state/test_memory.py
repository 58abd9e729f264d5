"""The memory store by a clock of the test's: leases, windows and ejections end as they should."""

from __future__ import annotations

from guard.clock import VirtualClock
from guard.retry.budget import Budget
from guard.state.memory import MemoryFleet, MemoryStore
from guard.state.store import WINDOW
from guard.types import ReplicaId

A = ReplicaId("a")


async def two() -> tuple[VirtualClock, MemoryStore, MemoryStore]:
    clock = VirtualClock()
    fleet = MemoryFleet(clock, lease=5.0, wall=clock.now)
    one, other = (MemoryStore(fleet, Budget(share=2_000, floor=3), name) for name in ("one", "two"))
    await one.open()
    await other.open()
    return clock, one, other


async def test_a_crashed_guards_retries_come_back_after_its_lease() -> None:
    clock, one, crashed = await two()
    for _ in range(3):
        assert await crashed.admit_retry(1)
    clock.advance(4.9)
    assert not await one.admit_retry(1)
    clock.advance(0.2)
    assert await one.admit_retry(1)
    assert one.fleet.guards == 1


async def test_counts_of_a_guard_that_left_stay_for_their_window() -> None:
    clock, one, other = await two()
    await other.count_quality(A, "m", 3, 1)
    await other.beat(0)
    await other.close()
    await one.beat(0)
    assert await one.quality() == {A: (3, 1)}
    clock.advance(WINDOW)
    await one.beat(0)
    assert await one.quality() == {}


async def test_an_ejection_ends_by_the_clock() -> None:
    clock, one, other = await two()
    await one.eject(A, 10.0, "bad")
    await other.beat(0)
    assert set(await other.ejected()) == {A}
    clock.advance(10.0)
    assert await other.ejected() == await one.ejected() == {}


async def test_admissions_are_counted() -> None:
    _, one, _ = await two()
    for _ in range(4):
        await one.admit_retry(1)
    assert one.counts.admissions == {("granted", "fleet"): 3, ("refused", "fleet"): 1}
    assert one.retries == 3
