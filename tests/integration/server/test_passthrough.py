"""What the guard does not watch passes byte for byte."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import pytest
from aiohttp import web

from guard.config import TimeoutSettings
from guard.fleet.settings import TransportSettings
from tests.integration.server.conftest import QUIET, guarded
from tests.integration.server.scripted import CHUNKED_SSE, backend, chunked
from tests.unit.core.transcript import policy


async def echo(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    return web.Response(
        status=207,
        body=f"{request.method} {request.raw_path}\n".encode() + body,
        headers=[("X-Two", "a"), ("X-Two", "b"), ("X-Saw", request.headers.get("X-Mine", ""))],
    )


@pytest.fixture
async def echo_url() -> aiohttp.typedefs.StrOrURL:
    app = web.Application()
    app.router.add_route("*", "/{p:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_methods_paths_bodies_and_headers_pass(echo_url: str, method: str) -> None:
    async with guarded(echo_url, policy=policy()) as (running, client):
        path = "/v1/models/a%2Fb?x=1&y=%20z"
        body = b"\x00\xff raw" if method in ("POST", "PUT", "PATCH") else None
        url = aiohttp.client.URL(running.url + path, encoded=True)
        async with client.request(method, url, data=body, headers={"X-Mine": "yes"}) as response:
            got = await response.read()
        assert response.status == 207
        assert got == f"{method} {path}\n".encode() + (body or b"")
        assert response.headers.getall("X-Two") == ["a", "b"]
        assert response.headers["X-Saw"] == "yes"
        assert running.guard.metrics.passthrough == 1


async def test_head_has_no_body(echo_url: str) -> None:
    async with (
        guarded(echo_url, policy=policy()) as (running, client),
        client.head(running.url + "/health") as response,
    ):
        assert response.status == 207
        assert await response.read() == b""


async def test_a_large_upload_is_streamed(echo_url: str) -> None:
    async def pieces() -> object:
        for _ in range(16):
            yield b"x" * 65536

    async with guarded(echo_url, policy=policy()) as (running, client):
        async with client.post(running.url + "/v1/audio/transcriptions", data=pieces()) as response:
            got = await response.read()
        # The echo backend itself refuses more than 1 MiB less one line; below that all arrives.
        assert response.status in (207, 413)
        assert response.status == 413 or len(got) > 16 * 65536


async def test_nobody_waits_for_a_backend_that_meets_no_expectation() -> None:
    """The guard has said 100 itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, asyncio.timeout(5):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with (
            guarded(url, policy=policy()) as (running, client),
            client.post(running.url + "/v1/files", data=b"file", expect100=True) as response,
        ):
            assert (response.status, await response.read()) == (200, b"file")


async def test_get_on_a_guarded_path_is_passed_on(echo_url: str) -> None:
    async with (
        guarded(echo_url, policy=policy()) as (running, client),
        client.get(running.url + "/v1/chat/completions") as response,
    ):
        assert response.status == 207


async def test_a_backend_that_is_down_is_a_502() -> None:
    async with (
        guarded("http://127.0.0.1:9", policy=policy()) as (running, client),
        client.get(running.url + "/v1/models") as response,
    ):
        assert response.status == 502
        error = (await response.json())["error"]
        assert error["code"] == "upstream_connect"
        assert error["message"] == "connect: cannot reach the backend: Connection refused"


async def test_a_replica_that_cannot_be_reached_is_asked_last_from_then_on(echo_url: str) -> None:
    pool = msgspec.structs.replace(QUIET, transport=TransportSettings(pause=3600))
    async with guarded("http://127.0.0.1:9", echo_url, policy=policy(), pool=pool) as (running, client):
        statuses: list[int] = []
        for _ in range(20):
            async with client.get(running.url + "/v1/models") as response:
                statuses.append(response.status)
    assert statuses.count(502) <= 1


@pytest.mark.parametrize("breaks", [[b"zz\r\n", 2.0], []])
async def test_an_answer_that_breaks_is_broken_off_for_the_client_too(breaks: list[bytes | float | None]) -> None:
    script: list[bytes | float | None] = [CHUNKED_SSE, chunked(b"half"), 0.05, *breaks]
    async with (
        backend(lambda _: script) as upstream,
        guarded(upstream.url, policy=policy(), timeouts=TimeoutSettings(idle=5, drain=0.2)) as (running, client),
    ):
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            async with asyncio.timeout(3), client.post(running.url + "/embed", data=b"x") as response:
                await response.read()


async def test_a_protocol_that_nobody_asked_for_is_a_502() -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    async with (
        backend(lambda _: [switched, None]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
        client.post(running.url + "/tokenize", data=b"x") as response,
    ):
        assert response.status == 502
        assert (await response.json())["error"]["code"] == "upstream_protocol"
