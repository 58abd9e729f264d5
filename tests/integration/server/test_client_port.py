"""The client port: its connections are set as aiohttp alone would set them, and answers may be the last on theirs."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import pytest
import trustme
import uvloop
from aiohttp import web

from guard.config import Listen
from guard.server.client_port import client_runner
from guard.server.ports import listen_on

REQUEST = b"GET /any/path HTTP/1.1\r\nHost: a\r\n\r\n"


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """Tell how the connection is set."""
    assert request.transport is not None
    accepted = request.transport.get_extra_info("socket")
    nodelay = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    kept = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return web.Response(text=f"{request.path} nodelay={bool(nodelay)} keepalive={bool(kept)}")


async def talk(host: str, *, secure: bool, last: bool, requests: int) -> list[bytes]:
    """What a client is told that asks several times on one connection."""
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    runner = client_runner(answer, lambda: last, {"access_log": None, "handler_cancellation": True}, 0.1)
    await runner.setup()
    await listen_on(runner, Listen(host=host, port=0), "listen", context if secure else None)
    try:
        async with asyncio.timeout(10):
            port = runner.addresses[0][1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting if secure else None)
            said = []
            for _ in range(requests):
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
                said.append(await reader.readexactly(int(length.split(b":")[1])))
            assert await asyncio.wait_for(reader.read(1), 8.0 if last else 0.05) == b""
            writer.close()
    except TimeoutError:
        assert not last
    finally:
        await runner.cleanup()
    return said


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("secure", [False, True])
def test_small_writes_go_out_at_once_and_dead_clients_are_found(
    loop: Callable[[], asyncio.AbstractEventLoop], host: str, secure: bool
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        said = runner.run(talk(host, secure=secure, last=False, requests=2))
    assert said == [b"/any/path nodelay=True keepalive=True"] * 2


async def test_a_connection_ends_with_an_answer_that_is_the_last() -> None:
    assert len(await talk("127.0.0.1", secure=False, last=True, requests=1)) == 1
