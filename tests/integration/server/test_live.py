"""The live feed shows every step, and a slow listener harms nobody."""

from __future__ import annotations

import asyncio
import json

from guard.core.record import ExchangeRecord
from guard.server import live
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import BAD, DONE, FULL, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_steps_of_all_attempts_and_the_end_are_told() -> None:
    def script(n: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk(BAD), None] if n == 1 else [OK_SSE, chunk("Fine"), chunk("", finish="stop"), DONE]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy(hold=FULL)) as (running, client):
        async with client.get(running.admin_url + "/guard/live") as feed:
            assert (await feed.content.readline()).startswith(b": listening")
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                await response.read()
            events = []
            while not events or events[-1][0] != "exchange":
                line = (await asyncio.wait_for(feed.content.readline(), 10)).decode().strip()
                if line.startswith("event: "):
                    events.append((line[7:], {}))
                elif line.startswith("data: "):
                    events[-1] = (events[-1][0], json.loads(line[6:]))
            while not events[-1][1]:
                line = (await asyncio.wait_for(feed.content.readline(), 10)).decode().strip()
                if line.startswith("data: "):
                    events[-1] = (events[-1][0], json.loads(line[6:]))
        steps = [(e["attempt"], e["accepted"], e["drafted"]) for kind, e in events if kind == "steps"]
        assert steps == [(1, [0], [2]), (2, [2], [2])]
        assert events[-1][1]["outcome"] == "rescued"
        assert "hi" not in json.dumps(events)


async def test_a_listener_that_does_not_read_is_dropped(monkeypatch: object) -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        hub = running.guard.live
        async with client.get(running.admin_url + "/guard/live") as feed:
            await feed.content.readline()
            assert running.guard.metrics.live_listeners == 1
            record = ExchangeRecord("r", "route", "m", "p", stream=True)
            # No turn of the event loop in between: the listener cannot read.
            for _ in range(live.MAX_BEHIND + 1):
                hub.ended(record)
            assert running.guard.metrics.live_listeners == 0
            assert not hub.active
            body = await asyncio.wait_for(feed.content.read(), 10)
        assert b"dropped" in body
