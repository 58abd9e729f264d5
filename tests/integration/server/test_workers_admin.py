"""One admin port for all workers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

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


async def told(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(url) as answer:
        assert answer.status == 200, url
        return await answer.json()


async def test_the_pages_of_the_dashboard_are_those_of_all_workers(tmp_path: Path) -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One ", finish="stop"), DONE]
    token = tmp_path / "token"
    token.write_text("t0ken")
    jar = aiohttp.CookieJar(unsafe=True)
    variables = {"GUARD_ACCESS_ADMIN_TOKEN_FILE": str(token), "GUARD_RECORDING_FOLDER": str(tmp_path / "recorded")}
    async with (
        backend(lambda _: script) as upstream,
        fleet(upstream.url, variables=variables | {"GUARD_RECORDING_HEALTHY": "1"}) as guard,
        aiohttp.ClientSession(cookie_jar=jar) as client,
    ):
        # One session, at the supervisor's port, opens what every worker has.
        async with client.get(guard.admin + "/guard/status") as answer:
            assert answer.status == 401
        async with client.post(guard.admin + "/login", data={"token": "t0ken"}) as page:
            assert str(page.url) == guard.admin + "/dashboard"
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            tag = page.headers["ETag"]
        async with client.get(guard.admin + "/dashboard", headers={"If-None-Match": tag}) as page:
            assert page.status == 304
        for _ in range(24):
            assert "[DONE]" in await chat(client, guard.url)
        status = await told(client, guard.admin + "/guard/status")
        assert status["workers"] == {"serving": 2, "of": 2}
        history = await told(client, guard.admin + "/guard/history?seconds=900")
        assert (history["total"]["exchanges"], sum(history["columns"]["exchanges"])) == (24, 24)
        (line,) = await told(client, guard.admin + "/guard/replicas")
        assert line["seen_by"] == {"workers": 2, "of": 2}
        assert history["replicas"][line["name"]]["total"]["attempts"] == 24
        ends = [entry["ended_at"] for entry in await told(client, guard.admin + "/guard/requests?limit=5")]
        assert len(ends) == 5
        assert ends == sorted(ends, reverse=True)
        assert (await told(client, guard.admin + "/guard/policies/source"))["policies"]
        # Whichever worker is asked, a try runs over what all of them recorded.
        files = (await told(client, guard.admin + "/guard/what-if"))["files"]
        recorded = {path.name for path in (tmp_path / "recorded").glob("*.jsonl")}
        assert {entry["name"] for entry in files} == recorded
        assert {name.partition("-worker")[2][:1] for name in recorded} == {"0", "1"}
        edit = {"policy": "default", "edits": []}
        async with client.post(guard.admin + "/guard/what-if", json=edit) as answer:
            assert answer.status == 200
            assert "streams" in await answer.text()


async def test_streams_of_workers_keep_apart_and_those_of_a_lost_one_go(tmp_path: Path) -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One "), 60.0]
    async with backend(lambda _: script) as upstream, fleet(upstream.url) as guard, aiohttp.ClientSession() as client:
        waiting = [asyncio.create_task(chat(client, guard.url)) for _ in range(16)]
        async with client.get(guard.admin + "/guard/streams") as feed:
            seen: dict[int, dict[int, str]] = {}

            async def read(until: Callable[[], bool]) -> None:
                async with asyncio.timeout(PATIENCE):
                    while not until():
                        line = await feed.content.readline()
                        if line.startswith(b"data: "):
                            event = msgspec.json.decode(line[6:])
                            mine = seen.setdefault(event["w"], {})
                            if "now" not in event and "ended" not in event:
                                mine.clear()
                            mine |= {one["i"]: one.get("id", "") for one in event["streams"]}

            await read(lambda: sum(map(len, seen.values())) == 16)
            assert len(seen) == 2
            assert all(seen.values())
            os.kill(guard.workers()[0], signal.SIGKILL)
            await read(lambda: not all(seen.values()))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_live_feed_has_the_steps_of_every_worker() -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One "), chunk("", finish="stop"), DONE]
    async with (
        backend(lambda _: script) as upstream,
        fleet(upstream.url) as guard,
        aiohttp.ClientSession() as client,
        client.get(guard.admin + "/guard/live") as feed,
    ):
        assert feed.content_type == "text/event-stream"
        assert feed.headers["X-Accel-Buffering"] == "no"  # as of one process: nginx would gather events
        for _ in range(24):
            await chat(client, guard.url)
        async with client.get(guard.admin + "/guard/requests") as requests:
            names = [entry["request_id"] for entry in await requests.json()]
        seen = b""
        async with asyncio.timeout(PATIENCE):
            while not all(name.encode() in seen for name in names):
                seen += await feed.content.readany()


async def test_ready_as_long_as_a_worker_serves() -> None:
    async with backend(lambda _: [OK_SSE]) as upstream, fleet(upstream.url) as guard, aiohttp.ClientSession() as client:
        seen: set[tuple[int, int]] = set()

        async def ready(workers: int) -> bool:
            async with client.get(guard.admin + "/readyz") as response:
                seen.add((response.status, (await response.json()).get("workers", 0)))
            return (200, workers) in seen

        os.kill(guard.workers()[0], signal.SIGKILL)
        await until("one is missed", lambda: ready(1))
        await until("both are there", lambda: ready(2))
        assert seen <= {(200, 1), (200, 2)}
        async with client.get(guard.admin + "/healthz") as response:
            workers = (await response.json())["workers"]
        assert sorted(worker["restarts"] for worker in workers) == [0, 1]
