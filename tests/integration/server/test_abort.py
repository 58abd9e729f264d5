"""Aborts through an engine's own route."""

from __future__ import annotations

import aiohttp

from guard.server.abort import Aborter
from tests.integration.server.scripted import backend

REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_only_engines_with_a_route_are_called_and_only_with_an_id() -> None:
    aborter = Aborter()
    async with backend(lambda _: [TAKEN]) as upstream, aiohttp.ClientSession() as session:
        aborter.send(session, upstream.url, "vllm", "a")
        aborter.send(session, upstream.url, None, "a")
        aborter.send(session, upstream.url, "sglang", "")
        aborter.send(session, upstream.url, "sglang", "a")
        await aborter.close()
    assert len(upstream.requests) == 1
    assert (aborter.confirmed, aborter.failed) == (1, 0)


async def test_a_refusal_or_a_dead_replica_is_counted_and_harms_nobody() -> None:
    aborter = Aborter()
    async with backend(lambda _: [REFUSED]) as upstream, aiohttp.ClientSession() as session:
        aborter.send(session, upstream.url, "sglang", "a")
        aborter.send(session, "http://127.0.0.1:9", "sglang", "b")
        await aborter.close()
    assert (aborter.confirmed, aborter.failed) == (0, 2)
