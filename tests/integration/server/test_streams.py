"""The feed of streams in flight: a snapshot, then only what is new, from both attempts of a rescued exchange."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from guard.core.exchange import Exchange
from guard.observe.metrics import Metrics
from guard.server import streams
from guard.server.streams import SHOWN_STEPS, Streams
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, Script, backend
from tests.unit.core.transcript import BAD, DONE, FULL, Client, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def told(feed: aiohttp.ClientResponse) -> tuple[str, Any]:
    """The next event."""
    name = ""
    while True:
        line = (await asyncio.wait_for(feed.content.readline(), 10)).decode().strip()
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            return name, json.loads(line[6:])


async def test_a_rescued_stream_is_told_from_beginning_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TICK", 0.05)

    seen = [asyncio.Event(), asyncio.Event()]

    def script(n: int) -> Script:
        if n == 1:
            return [OK_SSE, chunk("Fine "), seen[0], chunk(BAD), None]
        return [OK_SSE, chunk("Fine"), seen[1], chunk("", finish="stop"), DONE]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy(hold=FULL)) as (running, client):
        async with client.get(running.admin_url + "/guard/streams") as feed:
            name, first = await told(feed)
            assert (name, first["open"], first["streams"]) == ("snapshot", 0, [])
            answer = asyncio.create_task(client.post(running.url + "/v1/chat/completions", json=CHAT))
            lines: list[dict[str, Any]] = []
            ended: list[dict[str, Any]] = []
            while not ended:
                name, tick = await told(feed)
                assert name == "tick"
                lines += tick["streams"]
                for event, _ in zip(seen, [line for line in lines if line.get("k")], strict=False):
                    event.set()
                ended += tick["ended"]
            (await answer).close()
        attempt, steps = 0, []
        for line in lines:
            attempt = line.get("a", attempt)  # told once, perhaps before the first step
            if line.get("k"):
                steps.append((attempt, line["k"]))
        assert steps == [(1, "2"), (2, "2")]  # what the ticks saw of the two attempts
        # What does not change is told once.
        assert [line["m"] for line in lines if "m" in line] == ["m"]
        assert ended[0]["outcome"] == "rescued"
        assert ended[0]["i"] == lines[0]["i"]
        await asyncio.sleep(0)
        assert len(running.guard.streams) == 0


async def test_nothing_ticks_while_nobody_watches() -> None:
    def script(_: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk("Fine", finish="stop"), DONE]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy()) as (running, client):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            await response.read()
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "streams" not in names
        async with client.get(running.admin_url + "/guard/streams") as feed:
            await told(feed)
            assert "streams" in {task.get_name() for task in asyncio.all_tasks()}
        for _ in range(50):
            await asyncio.sleep(0.02)
            if "streams" not in {task.get_name() for task in asyncio.all_tasks()}:
                break
        assert "streams" not in {task.get_name() for task in asyncio.all_tasks()}
        assert running.guard.metrics.live_listeners == 0


def exchange(steps: int) -> Exchange:
    client = Client(policy())
    client.head()
    client.data(*(chunk("Fine ") for _ in range(steps)))
    return client.exchange


async def test_a_new_listener_gets_the_latest_steps_and_the_next_tick_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    live = Streams(Metrics(), wall=lambda: 1e9)
    number = live.began(exchange(500))
    live._feed.publish = kept.append  # type: ignore[method-assign]
    await live._tick()
    (line,) = json.loads(kept[0].split(b"data: ")[1])["streams"]
    assert (line["i"], line["t"], len(line["k"])) == (number, 1500, SHOWN_STEPS)
    (again,) = json.loads(live._snapshot().split(b"data: ")[1])["streams"]
    assert again["k"] == line["k"]
    await live._tick()
    assert json.loads(kept[1].split(b"data: ")[1])["streams"] == []
    # One that comes in the middle of a tick gets nothing twice: what was gathered goes to the others first.
    live.began(exchange(3))
    live.began(exchange(4))
    ticking = live._tick()
    monkeypatch.setattr(streams, "SLICE", 2)
    ticking.send(None)  # up to the first turn of the others
    told_then = json.loads(live._snapshot().split(b"data: ")[1])["streams"]
    with pytest.raises(StopIteration):
        ticking.send(None)
    assert [line["i"] for line in told_then] == [number, number + 1]
    assert [[line["i"] for line in json.loads(event.split(b"data: ")[1])["streams"]] for event in kept[2:]] == [
        [number + 1], [number + 2],
    ]  # fmt: skip
    assert live.find("r1") is not None
    live.ended(number)
    live.ended(number + 1)
    live.ended(number + 2)
    assert live.find("r1") is None
