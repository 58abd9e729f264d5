"""What every store of shared state promises: memory, Redis alone, behind a Sentinel, as a Cluster."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from guard.clock import MonotonicClock
from guard.retry.budget import Budget
from guard.state.memory import MemoryFleet, MemoryStore
from guard.state.redis import RedisStore
from guard.state.retries import SETTLING
from guard.state.settings import StoreSettings
from guard.state.store import KEPT_MEANS, KEPT_TALLIES, KEPT_VERDICTS, StateStore
from guard.types import ReplicaId
from tests.integration.state.servers import Cluster, Sentinels, Server

A, B = ReplicaId("replica-a"), ReplicaId("replica-b")
CLOCK = MonotonicClock()
#: Generous: what is tested here is the answer, not how soon it comes on a busy machine.
DEADLINE = 2.0

Join = Callable[[str], Awaitable[StateStore]]
_fleets = itertools.count()


@pytest.fixture(params=["memory", "redis", "sentinel", "cluster"])
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Join]:
    """Adds a guard to a fleet of the test's own: budget 20 %, floor 3."""
    kind, budget = request.param, Budget(share=2_000, floor=3)
    settings = _settings(kind, request) if kind != "memory" else None
    fleet = MemoryFleet(CLOCK)
    async with contextlib.AsyncExitStack() as stack:

        async def joined(guard: str) -> StateStore:
            store: StateStore = (
                RedisStore(settings, budget, guard, CLOCK) if settings else MemoryStore(fleet, budget, guard)
            )
            stack.push_async_callback(store.close)
            await store.open()
            assert not store.degraded
            return store

        yield joined


def _settings(kind: str, request: pytest.FixtureRequest) -> StoreSettings:
    name = f"conformance-{next(_fleets)}"
    if kind == "redis":
        server: Server = request.getfixturevalue("redis_server")
        return StoreSettings(url=server.url, namespace=name, deadline=DEADLINE)
    if kind == "sentinel":
        sentinels: Sentinels = request.getfixturevalue("shared_sentinels")
        at = [f"127.0.0.1:{sentinels.sentinel.port}"]
        return StoreSettings(url="redis://the-master/0", sentinels=at, namespace=name, deadline=DEADLINE)
    cluster: Cluster = request.getfixturevalue("redis_cluster")
    return StoreSettings(url=cluster.nodes[0].url, cluster=True, namespace=name, deadline=DEADLINE)


async def settled(*stores: StateStore) -> None:
    """A fresh store decides for the fleet only when it has had time to hear of all guards."""
    end = CLOCK.now() + SETTLING + 0.05
    while CLOCK.now() < end:
        for store in stores:
            await store.beat(0)
        await asyncio.sleep(0.1)


async def taken(store: StateStore, active: int = 1) -> int:
    """Retries that a guard gets when it asks without end."""
    count = 0
    while await store.admit_retry(active):
        count += 1
    return count


async def test_the_floor_is_the_whole_fleets_and_a_guard_that_leaves_gives_its_part_back(join: Join) -> None:
    one, two = await join("one"), await join("two")
    await settled(one, two)
    assert one.room
    assert await taken(one) == 3
    assert await taken(two) == 0
    assert not one.room
    assert not two.room
    await one.retry_done()
    await one.beat(1)
    assert await two.admit_retry(1)
    assert not await one.admit_retry(1)
    assert (one.retries, two.retries) == (2, 1)
    await one.close()
    assert await taken(two) == 2


async def test_the_share_is_of_the_requests_of_all_guards(join: Join) -> None:
    one, two = await join("one"), await join("two")
    await settled(one, two)
    await two.beat(72)
    assert await taken(one, active=48) == 20
    assert one.fleet.active == 120
    assert one.fleet.guards == 2


async def test_answers_of_all_guards_are_counted_together(join: Join) -> None:
    one, two = await join("one"), await join("two")
    await one.count_quality(A, "m", 5, 1)
    await one.count_quality(B, "m", 2, 0)
    await two.count_quality(A, "m", 10, 3)
    assert await one.quality() == {A: (5, 1), B: (2, 0)}
    await one.beat(0)
    await two.beat(0)
    await one.beat(0)
    assert await one.quality() == await two.quality() == {A: (15, 4), B: (2, 0)}
    await one.beat(0)
    await one.beat(0)
    assert await two.quality() == {A: (15, 4), B: (2, 0)}, "told again, not added again"


async def test_an_ejection_holds_for_all_guards(join: Join) -> None:
    one, two = await join("one"), await join("two")
    until_then = time.time() + 30
    await one.eject(A, until_then, "garbles 30 %")
    assert set(await one.ejected()) == {A}
    await two.beat(0)
    found = (await two.ejected())[A]
    assert (found.reason, found.guard) == ("garbles 30 %", "one")
    assert found.until == pytest.approx(until_then, abs=1.0)


async def test_of_two_ejections_the_longer_holds_and_a_return_ends_both(join: Join) -> None:
    one, two = await join("one"), await join("two")
    await one.eject(A, time.time() + 60, "long")
    await two.eject(A, time.time() + 30, "short")
    await one.beat(0)
    await two.beat(0)
    assert (await one.ejected())[A].reason == (await two.ejected())[A].reason == "long"
    await two.eject(A, time.time(), "back")
    assert await two.ejected() == {}
    await one.beat(0)
    assert await one.ejected() == {}


async def test_an_ejection_ends_by_itself(join: Join) -> None:
    one, two = await join("one"), await join("two")
    await one.eject(A, time.time() + 1.0, "short")
    await two.beat(0)
    assert set(await two.ejected()) == {A}
    end = CLOCK.now() + 1.2
    while CLOCK.now() < end:
        await two.beat(0)
        await asyncio.sleep(0.1)
    assert await two.ejected() == {}
    assert await one.ejected() == {}


async def test_means_of_all_guards_come_together_in_order(join: Join) -> None:
    one, two = await join("one"), await join("two")
    assert await one.share_means("d", [0.5, 0.25]) == (0.5, 0.25)
    assert await two.share_means("d", [0.75]) == (0.5, 0.25, 0.75)
    assert await one.share_means("d", []) == (0.5, 0.25, 0.75)
    assert await one.share_means("another", []) == ()


async def test_scored_answers_of_all_guards_come_together_in_order_and_are_capped(join: Join) -> None:
    one, two = await join("one"), await join("two")
    assert await one.share_tallies("m", [(1, 0, 20)]) == ((1, 0, 20),)
    assert await two.share_tallies("m", [(2, 1, 30)]) == ((1, 0, 20), (2, 1, 30))
    assert await one.share_tallies("m", []) == ((1, 0, 20), (2, 1, 30))
    assert await one.share_tallies("another", []) == ()
    assert await one.share_means("m", []) == ()
    assert await one.share_tallies("m", [(0, 9)] * KEPT_TALLIES) == ((0, 9),) * KEPT_TALLIES


async def test_means_are_capped(join: Join) -> None:
    one = await join("one")
    await one.share_means("d", [0.1] * 10)
    assert await one.share_means("d", [0.9] * KEPT_MEANS) == (0.9,) * KEPT_MEANS


async def test_verdicts_of_all_guards_newest_first(join: Join) -> None:
    one, two = await join("one"), await join("two")
    await one.note_verdict({"request_id": "r1", "kind": "garbled"})
    assert [entry["request_id"] for entry in await one.recent_verdicts(10)] == ["r1"]
    await one.beat(0)
    await two.note_verdict({"request_id": "r2", "kind": "repetition"})
    await two.beat(0)
    for store in (one, two):
        found = await store.recent_verdicts(10)
        assert [(entry["request_id"], entry["guard"]) for entry in found] == [("r2", "two"), ("r1", "one")]
        assert len(await store.recent_verdicts(1)) == 1


async def test_verdicts_are_capped(join: Join) -> None:
    one = await join("one")
    for number in range(KEPT_VERDICTS + 20):
        await one.note_verdict({"request_id": f"r{number}"})
        if number % 100 == 0:
            await one.beat(0)
    await one.beat(0)
    found = await one.recent_verdicts(2 * KEPT_VERDICTS)
    assert len(found) == KEPT_VERDICTS
    assert found[0]["request_id"] == f"r{KEPT_VERDICTS + 19}"


async def test_two_fleets_know_nothing_of_each_other(join: Join, request: pytest.FixtureRequest) -> None:
    one = await join("one")
    await one.eject(A, time.time() + 30, "theirs")
    kind = request.node.callspec.params["join"]
    settings = _settings(kind, request) if kind != "memory" else None
    other: StateStore = (
        RedisStore(settings, Budget(), "other", CLOCK)
        if settings
        else MemoryStore(MemoryFleet(CLOCK), Budget(), "other")
    )
    await other.open()
    assert await other.ejected() == {}
    assert other.fleet.guards == 1
    await other.close()
