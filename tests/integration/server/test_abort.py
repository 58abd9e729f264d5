"""Aborts: told where an engine must be told, and watched until the backend itself shows that they worked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from guard.server.abort import Aborter, running_requests
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
    assert aborter.failed == 0


async def test_a_refusal_or_a_dead_replica_is_counted_and_harms_nobody() -> None:
    aborter = Aborter()
    async with backend(lambda _: [REFUSED]) as upstream, aiohttp.ClientSession() as session:
        aborter.send(session, upstream.url, "sglang", "a")
        aborter.send(session, "http://127.0.0.1:9", "sglang", "b")
        await aborter.close()
    assert aborter.failed == 2


@pytest.mark.parametrize(
    ("engine", "body", "running"),
    [
        ("vllm", b'# HELP x\nvllm:num_requests_running{engine="0",model_name="m"} 3.0\n', 3),
        ("vllm", b'vllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_running{engine="1"} 2.0\n', 3),
        ("vllm", b"vllm:num_requests_waiting 3.0\n", None),
        ("sglang", b'sglang:num_running_reqs{model_name="m"} 0.0\n', 0),
        ("llama.cpp", b'[{"id": 0, "is_processing": true}, {"id": 1, "is_processing": false}]', 1),
        ("llama.cpp", b'{"error": "slots are off"}', None),
        ("text", b"", None),
        ("vllm", b"vllm:num_requests_running 1.2.3\n", None),
        ("vllm", b"vllm:num_requests_running 1e999\n", None),
    ],
)
def test_gauges_are_read(engine: str, body: bytes, running: int | None) -> None:
    assert running_requests(engine, body) == running


@contextlib.asynccontextmanager
async def gauge(values: list[int]) -> AsyncIterator[str]:
    """A vLLM whose gauge shows these values in turn; the last one stays."""

    async def metrics(_: web.Request) -> web.Response:
        value = values.pop(0) if len(values) > 1 else values[0]
        return web.Response(text=f"vllm:num_requests_running {value}.0\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def settled(aborter: Aborter) -> None:
    async with asyncio.timeout(5):
        while aborter._watches:
            await asyncio.sleep(0.01)


async def test_an_abort_is_confirmed_once_the_gauge_is_down() -> None:
    aborter = Aborter(patience=5.0)
    values = [2, 2, 1]
    async with gauge(values) as url, aiohttp.ClientSession() as session:
        aborter.send(session, url, "vllm", "", lambda: 1)
        await settled(aborter)
        assert values == [1], "it was looked at until it was down"
        aborter.send(session, url, "vllm", "", lambda: 1)
        aborter.send(session, url, "vllm", "", lambda: 1)
        await settled(aborter)
        await aborter.close()
    assert (aborter.confirmed, aborter.unconfirmed) == (3, 0)


async def test_what_cannot_be_seen_is_unconfirmed() -> None:
    aborter = Aborter(patience=0.2)
    async with gauge([1]) as url, aiohttp.ClientSession() as session:
        aborter.send(session, url, "vllm", "")
        aborter.send(session, "http://127.0.0.1:9", "vllm", "")
        aborter.send(session, url, "text", "")
        aborter.send(session, url, None, "")
        await settled(aborter)
    assert (aborter.confirmed, aborter.unconfirmed) == (0, 4)


async def test_closing_does_not_wait_for_a_gauge() -> None:
    aborter = Aborter(patience=60.0)
    async with gauge([1]) as url, aiohttp.ClientSession() as session:
        aborter.send(session, url, "vllm", "")
        async with asyncio.timeout(1):
            await aborter.close()
    assert (aborter.confirmed, aborter.unconfirmed) == (0, 1)
