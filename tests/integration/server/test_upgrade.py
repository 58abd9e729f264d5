"""WebSockets pass both ways, whatever they carry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.integration.server.conftest import guarded
from tests.unit.core.transcript import policy

REFUSED = "/refused"
ENDED = web.AppKey("ended", asyncio.Event)


async def handle(request: web.Request) -> web.StreamResponse:
    if request.path == REFUSED:
        return web.Response(status=403, text="not you", headers={"X-Why": "because"})
    socket = web.WebSocketResponse(protocols=["realtime"], compress=True, max_msg_size=0)
    await socket.prepare(request)
    await socket.send_json({"path": request.path_qs, "id": request.headers["X-Request-Id"], "key": request.query["k"]})
    async for message in socket:
        if message.data == "close":
            await socket.close(code=4001, message=b"done")
        elif message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    request.app[ENDED].set()
    return socket


@pytest.fixture
async def backend() -> AsyncIterator[tuple[str, asyncio.Event]]:
    app = web.Application()
    app[ENDED] = asyncio.Event()
    app.router.add_route("*", "/{p:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", app[ENDED]
    await runner.cleanup()


async def test_messages_pass_both_ways_with_protocol_compression_and_close_code(
    backend: tuple[str, asyncio.Event],
) -> None:
    url, _ = backend
    async with guarded(url, policy=policy()) as (running, client):
        socket = await client.ws_connect(
            running.url + "/v1/realtime?k=a%20b", protocols=["realtime"], headers={"X-Request-Id": "r-1"}, compress=15
        )
        assert socket.protocol == "realtime"
        assert socket.compress
        assert await socket.receive_json() == {"path": "/v1/realtime?k=a%20b", "id": "r-1", "key": "a b"}
        await socket.send_str("hé")
        assert await socket.receive_str() == "hé"
        await socket.send_bytes(b"\x00\xff" * 100_000)
        assert await socket.receive_bytes() == b"\x00\xff" * 100_000
        await socket.send_str("close")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4001
        assert running.guard.metrics.passthrough == 1
        while any(upstream.in_flight for upstream in running.guard.pool.upstreams):
            await asyncio.sleep(0)


async def test_the_backends_refusal_is_the_clients(backend: tuple[str, asyncio.Event]) -> None:
    url, _ = backend
    async with guarded(url, policy=policy()) as (running, client):
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "X-Request-Id": "r-2"}
        async with client.get(running.url + REFUSED, headers=headers) as response:
            assert (response.status, await response.text()) == (403, "not you")
            assert response.headers["X-Why"] == "because"
            assert response.headers["X-Request-Id"] == "r-2"


async def test_a_client_that_leaves_closes_the_backends_side(backend: tuple[str, asyncio.Event]) -> None:
    url, ended = backend
    async with guarded(url, policy=policy()) as (running, client):
        socket = await client.ws_connect(running.url + "/?k=1")
        await socket.receive_json()
        assert socket._response.connection is not None
        socket._response.connection.transport.abort()
        await asyncio.wait_for(ended.wait(), 2)


async def test_a_backend_that_is_down_is_a_502() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(running.url + "/v1/realtime")
        assert caught.value.status == 502
