"""A Redis that is killed, stopped, filled or made read-only: no call waits past its deadline, and all comes back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from guard.clock import MonotonicClock
from guard.retry.budget import Budget
from guard.state.redis import RedisStore
from guard.state.retries import RELEASE_AFTER, SETTLING
from guard.state.settings import StoreSettings, TlsSettings
from guard.types import ReplicaId
from tests.integration.state.servers import Sentinels, Server, certificates

A = ReplicaId("a")
CLOCK = MonotonicClock()
DEADLINE = 0.05
#: What a wait of DEADLINE may take on this machine while others use it. Unit: seconds.
AT_MOST = DEADLINE + 0.1
BUDGET = Budget(share=2_000, floor=3)


@contextlib.asynccontextmanager
async def fleet(url: str, *names: str, settled: bool = True, **settings: object) -> AsyncIterator[list[RedisStore]]:
    """Guards that share a store, past its settling time if they are to be `settled`."""
    fields = {"url": url, "deadline": DEADLINE, "lease": 2.0, **settings}
    stores = [RedisStore(StoreSettings(**fields), BUDGET, name, CLOCK) for name in names]  # type: ignore[arg-type]
    async with contextlib.AsyncExitStack() as stack:
        for store in stores:
            stack.push_async_callback(store.close)
            await store.open()
        end = CLOCK.now() + SETTLING + 0.1
        while settled and CLOCK.now() < end:
            await beat(*stores)
            await asyncio.sleep(0.2)
        yield stores


async def beat(*stores: RedisStore, active: int = 1) -> None:
    await asyncio.gather(*(store.beat(active) for store in stores))


async def back(*stores: RedisStore) -> None:
    """Beats until the store is reached again."""
    end = CLOCK.now() + 10
    while any(store.degraded for store in stores):
        assert CLOCK.now() < end
        await beat(*stores)
        await asyncio.sleep(0.05)


async def timed(call: Awaitable[object]) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


async def every_call(store: RedisStore) -> list[float]:
    """Seconds that each call of a request's path takes; retries are given back."""
    took = []
    for _ in range(5):
        before = store.retries
        took.append(await timed(store.admit_retry(1)))
        if store.retries > before:
            took.append(await timed(store.retry_done()))
        took.append(await timed(store.eject(A, time.time() + 60, "bad")))
        took.append(await timed(store.recent_verdicts(10)))
        for simple in (store.count_quality(A, "m", 1, 0), store.note_verdict({"kind": "garbled"})):
            took.append(await timed(simple))
        took.append(await timed(store.quality()))
        took.append(await timed(store.ejected()))
    return took


async def test_a_burst_is_decided_by_the_store_alone_and_keeps_the_budget(tmp_path: Path) -> None:
    """More at once, and again, than calls may be under way: some wait, and none is decided beside what is granted."""
    server, rng = Server(tmp_path).start(), random.Random(5)
    try:
        async with fleet(server.url, "one", deadline=2.0) as (store,):
            await beat(store, active=120)

            async def request() -> bool:
                await asyncio.sleep(rng.uniform(0, 0.02))
                return await store.admit_retry(120)

            granted = await asyncio.gather(*(request() for _ in range(200)))
            assert store.retries == sum(granted) == BUDGET.allowance(120)
            assert {by for _, by in store.counts.admissions} == {"fleet"}
            calls = sum(store.counts.calls[("admit", result)] for result in ("ok", "late"))
            assert calls < 200
            assert store.counts.calls[("admit", "skipped")] == 0
    finally:
        server.kill()


Fault = Callable[[Server], None]


@pytest.mark.parametrize(
    ("fault", "mended"),
    [
        (Server.kill, Server.start),
        (Server.pause, Server.resume),
        (Server.fill, Server.unfill),
        (Server.read_only, Server.writable),
    ],
    ids=["killed", "paused", "full", "read-only"],
)
async def test_no_fault_delays_or_fails_a_call_and_the_state_converges(
    own_redis: Server, fault: Fault, mended: Fault
) -> None:
    async with fleet(own_redis.url, "one", "two") as (one, two):
        await one.share_means("d", [0.5])
        fault(own_redis)
        took = await every_call(one)
        assert max(took) < AT_MOST
        assert sum(took) < 5 * AT_MOST, "after a few failures calls no longer wait"
        assert one.degraded
        assert one.fleet.guards == 1
        assert await one.quality() == {A: (5, 0)}
        assert set(await one.ejected()) == {A}
        assert len(await one.recent_verdicts(10)) == 5
        assert await one.share_means("d", [0.25]) == (0.5, 0.25)
        for _ in range(3):
            await beat(one, two)
            await one.share_means("d", [])
        assert one.degraded
        mended(own_redis)
        await back(one, two)
        await beat(one, two)
        await beat(one, two)
        assert await two.quality() == {A: (5, 0)}
        assert set(await two.ejected()) == {A}
        assert len(await two.recent_verdicts(10)) == 5
        assert await one.share_means("d", []) == (0.5, 0.25)
        assert await two.share_means("d", []) == (0.5, 0.25)
        assert one.fleet.guards == two.fleet.guards == 2


async def test_alone_two_guards_exceed_the_fleets_budget_by_at_most_one_each(own_redis: Server) -> None:
    async with fleet(own_redis.url, "one", "two") as stores:
        own_redis.kill()
        granted = 0
        for store in stores:
            while await store.admit_retry(10):
                granted += 1
        assert 3 <= granted <= 3 + len(stores)
        assert all(store.counts.admissions[("granted", "guard")] for store in stores)


async def test_a_store_that_lost_its_data_knows_all_retries_again_before_it_decides(own_redis: Server) -> None:
    async with fleet(own_redis.url, "one", "two") as (one, two):
        assert [await one.admit_retry(1) for _ in range(3)] == [True] * 3
        with own_redis.client() as client:
            client.flushall()
        # Too young to decide: by its own share, two of three, and the other's three are in flight.
        assert [await two.admit_retry(1) for _ in range(3)] == [True, True, False]
        end = CLOCK.now() + SETTLING + 0.1
        while CLOCK.now() < end:
            await beat(one, two)
            await asyncio.sleep(0.2)
        assert two.fleet.retries == 5
        await two.retry_done()
        await two.retry_done()
        await beat(two)
        assert not await two.admit_retry(1)


async def test_a_crashed_guards_retries_come_back_after_its_lease(own_redis: Server) -> None:
    async with fleet(own_redis.url, "one") as (one,):
        crashed = RedisStore(StoreSettings(url=own_redis.url, lease=2.0), BUDGET, "crashed", CLOCK)
        await crashed.open()
        assert [await crashed.admit_retry(1) for _ in range(3)] == [True] * 3
        assert not await one.admit_retry(1)
        await crashed._client.aclose()  # without a word to the others
        granted, end = False, CLOCK.now() + 5
        while not granted and CLOCK.now() < end:
            await asyncio.sleep(0.1)
            await beat(one)
            granted = await one.admit_retry(1)
        assert granted
        assert one.fleet.guards == 1


async def test_racing_guards_never_exceed_the_budget(own_redis: Server) -> None:
    """Four guards, each with many requests that ask at the same time, over many connections."""
    rng = random.Random(7)
    async with fleet(own_redis.url, "one", "two", "three", "four", deadline=5.0) as stores:
        in_flight, most, granted = 0, 0, 0

        async def request(store: RedisStore) -> None:
            nonlocal in_flight, most, granted
            for _ in range(10):
                if await store.admit_retry(20):
                    in_flight, granted = in_flight + 1, granted + 1
                    most = max(most, in_flight)
                    await asyncio.sleep(rng.uniform(0, 0.004))
                    in_flight -= 1
                    await store.retry_done()
                await asyncio.sleep(rng.uniform(0, 0.05))

        await beat(*stores, active=20)
        await asyncio.gather(*(request(store) for store in stores for _ in range(20)))
        assert most <= BUDGET.allowance(80) == 13
        assert granted > 32, "what is given back is granted again"
        assert [store.retries for store in stores] == [0] * 4
        await beat(*stores, active=20)
        await beat(*stores, active=20)
        assert stores[0].fleet.retries == 0


async def test_admission_is_one_round_trip_and_every_key_has_a_time_to_live(own_redis: Server) -> None:
    async with fleet(own_redis.url, "one") as (one,):
        await one.admit_retry(1)
        before = commands(own_redis)
        await one.admit_retry(1)
        assert commands(own_redis) - before == 1
        await one.count_quality(A, "m", 1, 1)
        await one.note_verdict({"kind": "garbled"})
        await one.eject(A, time.time() + 60, "bad")
        await one.share_means("d", [0.5])
        await beat(one)
        with own_redis.client() as client:
            keys = client.keys()
            assert len(keys) == 5
            assert all(key.startswith(b"{specdec-guard}:1:") for key in keys)
            assert all(client.ttl(key) > 0 for key in keys)


async def test_an_exchange_with_two_retries_makes_three_calls_and_a_healthy_one_none(own_redis: Server) -> None:
    async with fleet(own_redis.url, "one", deadline=2.0) as (one,):
        before = commands(own_redis)
        await one.count_quality(A, "m", 1, 0)
        await one.note_verdict({"kind": "garbled"})
        await one.quality()
        await one.ejected()
        for _ in range(2):
            assert await one.admit_retry(1)
            await one.retry_done()
        await asyncio.sleep(4 * RELEASE_AFTER)
        assert commands(own_redis) - before == 3
        with own_redis.client() as client:
            entry = client.hget("{specdec-guard}:1:guards", "one")
        assert entry.split()[2] == b"0", "the end of the second was told by itself"


def commands(server: Server) -> int:
    """Scripts that were called by now."""
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


async def test_after_a_restart_the_first_call_finds_the_scripts_gone_and_succeeds(own_redis: Server) -> None:
    async with fleet(own_redis.url, "one", settled=False, deadline=2.0) as (one,):
        with own_redis.client() as client:
            client.script_flush()
        await one.admit_retry(1)
        assert one.counts.calls[("admit", "ok")] == 1


async def test_a_user_with_a_password_and_only_the_fleets_keys(
    own_redis: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with own_redis.client() as client:
        client.execute_command(
            "ACL SETUSER guard on >s3cret ~{fleet-x}:* resetchannels -@all +eval +evalsha +xadd +xlen +xrevrange"
            " +hset +hget +hdel +hgetall +rpush +ltrim +lrange +exists +pexpire +time +auth"
        )
        client.execute_command("ACL SETUSER default off")
    monkeypatch.setenv("STORE_PASSWORD", "s3cret")
    by_variable = {"username": "guard", "password_env": "STORE_PASSWORD", "namespace": "fleet-x"}
    async with fleet(own_redis.url, "one", settled=False, **by_variable) as (one,):
        await one.note_verdict({"kind": "garbled"})
        await one.count_quality(A, "m", 1, 0)
        await one.eject(A, time.time() + 9, "bad")
        await one.share_means("d", [0.5])
        await beat(one)
        assert len(await one.recent_verdicts(5)) == 1
        assert {result for _, result in one.counts.calls} <= {"ok", "late"}
    wrong = tmp_path / "wrong"
    wrong.write_text("s3cret-but-wrong\n")
    refused = RedisStore(
        StoreSettings(url=own_redis.url, username="guard", password_file=str(wrong)), BUDGET, "two", CLOCK
    )
    for _ in range(3):
        await refused.beat(1)
    assert refused.degraded
    await refused.close()
    told = capfd.readouterr()
    assert "invalid username-password pair" in told.out + told.err
    assert "s3cret" not in told.out + told.err


async def test_tls_checks_the_servers_certificate(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    server = Server(tmp_path, tls=files)
    try:
        server.start()
        tls = TlsSettings(ca_file=files["ca.crt"])
        async with fleet(server.url, "one", tls=tls, deadline=2.0) as (one,):
            assert not one.degraded
            assert await one.admit_retry(1)
            assert one.counts.admissions[("granted", "fleet")] == 1
        stranger = RedisStore(StoreSettings(url=server.url), BUDGET, "two", CLOCK)
        for _ in range(3):
            await stranger.beat(1)
        assert stranger.degraded, "the system does not know this authority"
        await stranger.close()
    finally:
        server.kill()


async def test_a_sentinel_changes_the_master_and_the_guard_follows(redis_sentinels: Sentinels) -> None:
    at = [f"127.0.0.1:{redis_sentinels.sentinel.port}"]
    async with fleet("redis://the-master/0", "one", settled=False, sentinels=at) as (one,):
        await one.eject(A, time.time() + 60, "bad")
        redis_sentinels.master.kill()
        took = await every_call(one)
        assert max(took) < AT_MOST
        await back(one)
        await beat(one)
        with redis_sentinels.replica.client() as client:
            assert client.info("replication")["role"] == "master"
            assert client.hexists("{specdec-guard}:1:ejected", "a")


@contextlib.asynccontextmanager
async def name_for(*servers: Server) -> AsyncIterator[tuple[int, list[Server]]]:
    """A port that stands for the first server of the list; connections stay where they were made to."""
    behind, piping = list(servers), set[asyncio.Task[None]]()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", behind[0].port)
        piping.update((asyncio.create_task(pipe(reader, there[1])), asyncio.create_task(pipe(there[0], writer))))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], behind
    finally:
        server.close()
        for task in piping:
            task.cancel()


async def test_another_redis_takes_the_place_of_one_that_stays_up_read_only(own_redis: Server, tmp_path: Path) -> None:
    """As behind one DNS name or service: the old one, now a replica, keeps its connections open."""
    other = Server(tmp_path)
    other.start()
    try:
        async with (
            name_for(own_redis, other) as (port, behind),
            fleet(f"redis://127.0.0.1:{port}/0", "one", settled=False) as (one,),
        ):
            await one.eject(A, time.time() + 60, "bad")
            own_redis.read_only()
            behind.reverse()
            for _ in range(3):
                await one.admit_retry(1)
            await back(one)
            await beat(one)
            with other.client() as client:
                assert client.hexists("{specdec-guard}:1:ejected", "a")
    finally:
        other.kill()
