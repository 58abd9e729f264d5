"""WebSockets pass both ways, whatever they carry."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from guard.config import TimeoutSettings
from guard.server.run import Running
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


async def raw(url: str, *requests: bytes) -> bytes:
    """What one connection is answered, request upon request; the last one has to end it."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for request in requests[:-1]:
        writer.write(request)
        await reader.readuntil(b"not you")
    writer.write(requests[-1])
    said = await reader.read()
    writer.close()
    return said


ASKS = b"GET /refused?k=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-Id: r-3\r\n\r\n"


async def test_what_follows_a_refusal_on_the_same_connection_goes_through_the_guard(
    backend: tuple[str, asyncio.Event],
) -> None:
    """The backend keeps its connection open: joined to the client's, it would take the next request unwatched."""
    url, _ = backend
    async with guarded(url, policy=policy()) as (running, _client):
        body = b'{"stream": 2}'
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        said = await raw(running.url, ASKS, head % len(body) + body)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert b"stream must be true or false" in said  # the guard's own word
        assert running.guard.metrics.passthrough == 1


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def before(serve: Serve) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    """A guard before a backend that is one function, and a client."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with guarded(url, policy=policy()) as (running, client):
            yield running, client


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n4\r\n you\r\n0\r\n\r\n", b"not you"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nnot you", b"not you"),
        (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 7\r\n\r\nnot you", b"not you"),
        (b"HTTP/1.1 204 No\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot you", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\nx", None),
        (b"nonsense\r\n\r\n", b"does not speak HTTP"),
        (b"HTTP/1.1 200", b"closed the connection"),
    ],
)
async def test_any_answer_that_is_no_upgrade_keeps_its_body_and_its_end(answer: bytes, wanted: bytes | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with before(serve) as (running, client):
        if wanted is None:
            with pytest.raises(aiohttp.ClientError):
                await (await client.get(running.url + "/x", headers=UPGRADE)).read()
        else:
            async with client.get(running.url + "/x", headers=UPGRADE) as response:
                assert wanted in await response.read()
        assert not any(upstream.in_flight for upstream in running.guard.pool.upstreams)


async def test_with_a_body_it_is_a_request_like_any_other() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        said = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + said + b"%d" % (b"pgrade" in head))
        await writer.drain()
        writer.close()

    async with before(serve) as (running, client):
        response = await client.get(running.url + "/x", headers=UPGRADE, data=b"body")
        assert await response.text() == "body0"


async def test_a_client_that_leaves_closes_the_backends_side(backend: tuple[str, asyncio.Event]) -> None:
    url, ended = backend
    async with guarded(url, policy=policy()) as (running, client):
        socket = await client.ws_connect(running.url + "/?k=1")
        await socket.receive_json()
        assert socket._response.connection is not None
        socket._response.connection.transport.abort()
        await asyncio.wait_for(ended.wait(), 10)


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHES = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@contextlib.asynccontextmanager
async def switching(
    then: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A backend that switches, and then does that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHED)
        await then(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_backend_that_breaks_off_is_not_answered_for_in_http() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)  # the switch has arrived
        break_socket(writer)

    async with switching(reset) as url, guarded(url, policy=policy()) as (running, _client):
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(SWITCHES)
        said = await reader.readuntil(b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 101 ")
        writer.write(b"go")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


def break_socket(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_client_that_reads_nothing_is_let_go_of() -> None:
    let_go = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        let_go.set()

    timeouts = TimeoutSettings(unread=0.2, drain=0.2)
    async with switching(flood) as url, guarded(url, policy=policy(), timeouts=timeouts) as (running, _client):
        host, _, port = running.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(SWITCHES)
        async with asyncio.timeout(10):
            await let_go.wait()
        writer.close()


async def test_a_backend_that_is_down_is_a_502() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(running.url + "/v1/realtime")
        assert caught.value.status == 502
