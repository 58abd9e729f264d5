"""One admin port for all workers."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp

from tests.integration.server.fleet import PATIENCE, chat, fleet, until
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk


async def test_one_admin_port_speaks_for_all_workers() -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One ", finish="stop"), DONE]
    async with backend(lambda _: script) as upstream, fleet(upstream.url) as guard, aiohttp.ClientSession() as client:
        async with client.get(guard.admin + "/readyz") as ready:
            assert ready.status == 200
        for _ in range(24):
            assert "[DONE]" in await chat(client, guard.url)
        async with client.get(guard.admin + "/metrics") as metrics:
            told = await metrics.text()
        assert 'guard_exchanges_total{outcome="healthy"} 24.0' in told
        assert "guard_workers 2.0" in told
        async with client.get(guard.admin + "/guard/requests") as requests:
            listed = await requests.json()
        assert len({entry["request_id"] for entry in listed}) == 24
        for entry in listed:
            async with client.get(f"{guard.admin}/guard/requests/{entry['request_id']}") as page:
                assert page.status == 200
                assert (await page.json())["request_id"] == entry["request_id"]
        async with client.get(guard.admin + "/guard/requests/none") as page:
            assert page.status == 404
        async with client.get(guard.admin + "/guard/policies") as policies:
            assert [policy["name"] for policy in await policies.json()] == ["default"]


async def test_the_live_feed_has_the_steps_of_every_worker() -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One "), chunk("", finish="stop"), DONE]
    async with (
        backend(lambda _: script) as upstream,
        fleet(upstream.url) as guard,
        aiohttp.ClientSession() as client,
        client.get(guard.admin + "/guard/live") as feed,
    ):
        assert feed.content_type == "text/event-stream"
        for _ in range(24):
            await chat(client, guard.url)
        async with client.get(guard.admin + "/guard/requests") as requests:
            names = [entry["request_id"] for entry in await requests.json()]
        seen = b""
        async with asyncio.timeout(PATIENCE):
            while not all(name.encode() in seen for name in names):
                seen += await feed.content.readany()


async def test_not_ready_while_a_worker_is_missing() -> None:
    async with backend(lambda _: [OK_SSE]) as upstream, fleet(upstream.url) as guard, aiohttp.ClientSession() as client:

        async def ready(status: int) -> bool:
            async with client.get(guard.admin + "/readyz") as response:
                return response.status == status

        os.kill(guard.workers()[0], signal.SIGKILL)
        await until("it is noticed", lambda: ready(503))
        await until("it is ready again", lambda: ready(200))
        async with client.get(guard.admin + "/healthz") as response:
            workers = (await response.json())["workers"]
        assert sorted(worker["restarts"] for worker in workers) == [0, 1]
