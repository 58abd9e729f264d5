"""A stream without end that comes as fast as it can does not starve the others."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import aiohttp

from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk, policy

PATH = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
#: Of the others: how many there are, their chunks, and what lies between two. Unit: seconds.
OTHERS, CHUNKS, PACE = 5, 10, 0.01


def script(number: int) -> Iterator[bytes | float | None]:
    """The first stream is the flood, 500 chunks in a write."""
    yield OK_SSE
    if number == 1:
        yield from itertools.repeat(chunk("word ") * 500)
    for _ in range(CHUNKS):
        yield chunk("one ")
        yield PACE
    yield chunk("", finish="stop") + DONE


async def test_streams_beside_an_endless_flood_come_to_their_end() -> None:
    flooded = 0

    async def flood(client: aiohttp.ClientSession, url: str) -> None:
        nonlocal flooded
        async with client.post(url + PATH, json=BODY) as response:
            async for data in response.content.iter_any():
                flooded += len(data)

    async def ask(client: aiohttp.ClientSession, url: str) -> str:
        async with client.post(url + PATH, json=BODY) as response:
            return await response.text()

    async with backend(script) as upstream, guarded(upstream.url, policy=policy()) as (running, client):  # type: ignore[arg-type]
        flooding = asyncio.create_task(flood(client, running.url))
        async with asyncio.timeout(60):
            while not flooded:
                await asyncio.sleep(0.001)
            before = flooded
            texts = await asyncio.gather(*(ask(client, running.url) for _ in range(OTHERS)))
        assert [text.count('"one "') for text in texts] == [CHUNKS] * OTHERS
        assert not flooding.done()
        assert flooded > before
        flooding.cancel()
        await asyncio.wait({flooding})
        async with asyncio.timeout(10):
            await running.guard.gate.empty()
