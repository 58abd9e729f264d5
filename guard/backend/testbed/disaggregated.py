"""
Prefill and decode as two real servers, with a router in front: content is pushed from one into the other's cache.

The router is an example of the one step that a deployment needs: one request becomes two, of one room. It stands behind
the guard, which knows it as a replica like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from guard.backend.testbed.server import ServerHome, ServerOptions, VllmServer

_MODULE = "guard.backend.vllm.push.connector"
_PARAMS = "kv_transfer_params"
#: How long a prefill waits for a decode side that may have lost its client before it asked. Unit: seconds.
_KEEP_SECONDS = 10
#: Fields of a request that a prefill of one token must not have.
_NOT_FOR_PREFILL = ("max_completion_tokens", "min_tokens", "stream_options", "n", "best_of")


def with_transfer(options: ServerOptions, name: str, role: str, *, blocks: int, **extra: Any) -> ServerOptions:
    """
    Options of one half.

    Args:
        options: Of a server alone.
        name: The engine's name.
        role: vLLM's `kv_role`.
        blocks: Of its cache.
        extra: Settings of the push connector.
    """
    config = {
        "kv_connector": "PushConnector",
        "kv_connector_module_path": _MODULE,
        "kv_role": role,
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"name": name, **extra},
    }
    words = ("--kv-transfer-config", json.dumps(config), "--num-gpu-blocks-override", str(blocks))
    return msgspec.structs.replace(
        options, args=(*options.args, *words), env={**options.env, "GUARD_VLLM_RACE_FREE": "1"}
    )


class Router:
    """
    Sends each request to both halves; the answer is the decode side's.

    Args:
        prefill: Base address of the prefill server.
        decode: Base address of the decode server.
        name: The prefill engine's name.
    """

    def __init__(self, prefill: str, decode: str, name: str) -> None:
        self._prefill = prefill
        self._decode = decode
        self._name = name
        self._session: aiohttp.ClientSession | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request; those that generate go to both."""
        body = await request.read()
        prefill: asyncio.Task[None] | None = None
        if request.method == "POST" and request.path.endswith("/completions"):
            asked = json.loads(body)
            room = uuid.uuid4().hex
            first = {key: value for key, value in asked.items() if key not in _NOT_FOR_PREFILL}
            first |= {"max_tokens": 1, "stream": False, _PARAMS: {"push": "send", "room": room}}
            prefill = asyncio.create_task(self._send(request.path, first))
            body = json.dumps({**asked, _PARAMS: {"push": "receive", "room": room, "from": self._name}}).encode()
        try:
            return await self._answer(request, body)
        finally:
            if prefill is not None:
                prefill.cancel()

    async def _send(self, path: str, body: dict[str, Any]) -> None:
        """The prefill; if it fails, its engine gives the room up, or the decode side's deadline passes."""
        assert self._session is not None
        with contextlib.suppress(aiohttp.ClientError):
            async with self._session.post(self._prefill + path, json=body) as reply:
                await reply.read()

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        assert self._session is not None
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        url = self._decode + request.path_qs
        async with self._session.request(request.method, url, data=body, headers=headers) as reply:
            answer = web.StreamResponse(status=reply.status, headers={"content-type": reply.headers["content-type"]})
            await answer.prepare(request)
            async for chunk in reply.content.iter_any():
                await answer.write(chunk)
            await answer.write_eof()
            return answer

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve on a free loopback port; its base address."""
        app = web.Application(client_max_size=64 << 20, handler_args={"handler_cancellation": True})
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, handler_cancellation=True)
        timeout = aiohttp.ClientTimeout(total=None)
        # A connection kept open may be closed by the server at the moment in which it is used again.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            try:
                port = runner.addresses[0][1]
                yield f"http://127.0.0.1:{port}"
            finally:
                await runner.cleanup()


class Halves(msgspec.Struct):
    """
    A running pair.

    Args:
        prefill: The prefill server.
        decode: The decode server.
        url: The router's base address.
    """

    prefill: VllmServer
    decode: VllmServer
    url: str


@contextlib.asynccontextmanager
async def disaggregated(
    options: ServerOptions, *, blocks: int = 256, home: ServerHome | None = None
) -> AsyncIterator[Halves]:
    """
    Both servers and the router.

    Args:
        options: Of one server.
        blocks: Of each cache.
        home: What the servers are forked from; by default they have interpreters of their own.
    """
    with tempfile.TemporaryDirectory(prefix="guard-push-") as folder:
        path = str(Path(folder) / "kv")
        first = with_transfer(options, "P", "kv_producer", blocks=blocks, listen=path, keep_seconds=_KEEP_SECONDS)
        second = with_transfer(options, "D", "kv_consumer", blocks=blocks, peers={"P": path})
        prefill, decode = VllmServer(first, home=home), VllmServer(second, home=home)
        async with contextlib.AsyncExitStack() as stack:
            # Both at once: a start is mostly waiting for imports.
            await asyncio.gather(stack.enter_async_context(prefill), stack.enter_async_context(decode))
            url = await stack.enter_async_context(Router(prefill.url, decode.url, "P").running())
            yield Halves(prefill, decode, url)
