"""What must hold for anything that stands in front of the guard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from itertools import pairwise

import aiohttp

from tests.integration.server.scripted import OK_SSE, Backend
from tests.unit.core.transcript import DONE, chunk

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
CHAT = "/v1/chat/completions"
WORDS = 8
#: Between two chunks of the backend. Unit: seconds.
PAUSE = 0.25


def slow_words(_: int) -> list[bytes | float | None]:
    script: list[bytes | float | None] = [OK_SSE]
    for number in range(WORDS):
        script += [chunk(f"word {number} "), PAUSE]
    return [*script, chunk("", finish="stop"), DONE]


def endless(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("One "), None]


@contextlib.asynccontextmanager
async def running(*command: str, port: int) -> AsyncIterator[Process]:
    """A server process that listens on a port; stopped at the end."""
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE)
    assert process.stderr is not None
    said: list[bytes] = []

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            said.append(line)

    reading = asyncio.create_task(read())
    try:
        deadline = time.monotonic() + 20
        while True:
            assert process.returncode is None, b"".join(said).decode()
            assert time.monotonic() < deadline, b"".join(said).decode()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        await reading


async def check_chunks_arrive_one_by_one(client: aiohttp.ClientSession, url: str) -> None:
    """No buffering: every word of a slow stream is there before the next one is made."""
    arrivals: list[float] = []
    async with client.post(url + CHAT, json=BODY) as answer:
        text = ""
        async for data in answer.content.iter_any():
            text += data.decode()
            while f"word {len(arrivals)} " in text:
                arrivals.append(time.monotonic())
    assert len(arrivals) == WORDS
    assert text.endswith("data: [DONE]\n\n")
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    assert arrivals[-1] - arrivals[0] > (WORDS - 1) * PAUSE * 0.8
    assert sorted(gaps)[len(gaps) // 2] > PAUSE * 0.5, gaps


async def check_a_client_that_leaves_ends_the_generation(
    client: aiohttp.ClientSession, url: str, upstream: Backend
) -> None:
    """A disconnect goes through to the backend."""
    answer = await client.post(url + CHAT, json=BODY)
    await answer.content.readany()
    assert upstream.closed_by_peer == []
    answer.close()
    await asyncio.wait_for(upstream.peer_gone.wait(), 10)
