"""Health checks against real sockets; when they are due, by a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import random

import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

from guard.clock import VirtualClock
from guard.config import TimeoutSettings, UpstreamSettings
from guard.fleet.settings import HealthSettings
from guard.server.baselines import Baselines
from guard.server.health import JITTER, HealthChecks
from guard.server.upstream import UpstreamPool
from tests.out_of_files import out_of_files

SETTINGS = HealthSettings(interval=10.0, timeout=0.5, unhealthy_after=2)


def pool(*urls: str) -> UpstreamPool:
    return UpstreamPool(
        [UpstreamSettings(url=url, engine="vllm") for url in urls], Baselines({}), TimeoutSettings(), VirtualClock()
    )


async def test_a_replica_goes_and_comes_back() -> None:
    status = 200
    asked: list[str] = []

    async def health(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/{path:.*}", health)
    async with TestServer(app) as server:
        replicas = pool(str(server.make_url("")))
        await replicas.open()
        checks = HealthChecks(replicas, SETTINGS, VirtualClock(), random.Random(1))
        (one,) = replicas.upstreams
        for status, healthy in ((404, True), (503, True), (503, False), (200, True)):  # noqa: B007 - read by `health`
            await checks.check(one)
            assert one.replica.healthy is healthy
        await replicas.close()
    assert asked == ["/health"] * 4
    assert checks.results == {"good": 2, "failed": 2}


async def test_nobody_there_and_nobody_answering_are_bad() -> None:
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    replicas = pool("http://127.0.0.1:9", f"http://127.0.0.1:{port}")
    await replicas.open()
    checks = HealthChecks(replicas, HealthSettings(timeout=0.1), VirtualClock(), random.Random(1))
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            await asyncio.gather(*map(checks.check, replicas.upstreams))
    assert [u.replica.healthy for u in replicas.upstreams] == [False, False]
    told = {line["replica"]: line["reason"] for line in logs if line["event"] == "replica unhealthy"}
    assert told["http://127.0.0.1:9"] == "cannot reach the backend: Connection refused"
    assert told[f"http://127.0.0.1:{port}"] == "the backend did not answer in time"
    await replicas.close()
    silent.close()


async def test_a_check_that_this_machine_has_no_file_for_says_nothing() -> None:
    replicas = pool("http://127.0.0.1:9")
    await replicas.open()
    checks = HealthChecks(replicas, HealthSettings(), VirtualClock(), random.Random(1))
    (one,) = replicas.upstreams
    with out_of_files():
        for _ in range(5):
            await checks.check(one)
    assert one.replica.healthy
    assert not checks.results
    for _ in range(2):
        await checks.check(one)
    assert not one.replica.healthy
    await replicas.close()


def test_checks_are_due_at_times_of_their_own_and_the_same_seed_gives_the_same() -> None:
    def times(seed: int) -> list[list[float]]:
        clock = VirtualClock()
        replicas = pool("http://a", "http://b", "http://c")
        checks = HealthChecks(replicas, SETTINGS, clock, random.Random(seed))
        out: dict[str, list[float]] = {}
        for _ in range(1000):
            for upstream in checks.due():
                out.setdefault(upstream.name, []).append(clock.now())
            clock.advance(0.1)
        return list(out.values())

    runs = times(1)
    assert runs == times(1)
    assert runs != times(2)
    for run in runs:
        waits = [later - earlier for earlier, later in itertools.pairwise(run)]
        assert min(waits) >= 10.0 * (1 - JITTER) - 0.2
        assert max(waits) <= 10.0 * (1 + JITTER) + 0.2
    assert runs[0][1:] != runs[1][1:]


async def test_checks_can_be_switched_off_and_the_task_ends_clean() -> None:
    replicas = pool("http://127.0.0.1:9")
    await replicas.open()
    async with asyncio.timeout(1):
        await HealthChecks(replicas, HealthSettings(interval=0.0), VirtualClock(), random.Random(1)).run()
    checks = HealthChecks(replicas, SETTINGS, VirtualClock(), random.Random(1))
    running = asyncio.create_task(checks.run())
    async with asyncio.timeout(2):
        while not checks.results:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert checks.results == {"failed": 1}
    await replicas.close()
