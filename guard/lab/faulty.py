"""
A faulty replica: a reverse proxy before a real llama.cpp server that really spoils its KV cache.

It passes everything through byte for byte. When armed, the next matching generation runs on a
corrupted cache: of its prompt, or from a given token on, as after a late transfer. No text is made
up; what the client reads is what the model then says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from guard.errors import SetupError
from guard.lab.inject import FaultPlan, Injection, Injector, Order
from guard.lab.relay import GENERATION_PATHS, TokenCounter, relay, upstream_headers

__all__ = ["FaultPlan", "FaultyReplica", "Injection"]


class _Streamed(msgspec.Struct):
    stream: object = False


class FaultyReplica:
    """
    The proxy. Use as an async context manager; `url` is its address.

    Requests that ask for `cache_prompt: false` are never touched: their prompt is computed anew,
    which is what makes them a cure for a corrupted cache. A fault with an onset waits for a request
    whose reply is streamed. A corrupted prefix stays in its slot, and any later prompt that begins
    alike is served from it, until the slot is healed.

    `/lab/fault` on its port is the remote control: POST arms with a FaultPlan as JSON, DELETE disarms
    and heals, GET tells what is armed and what was done.

    Args:
        upstream: Address of the llama.cpp server.
        slots_folder: Folder in which that server saves slots.
        order: How to reach into the server's memory; None allows onset 0 only.
        slot: Slot that hit requests run in.
        port: Loopback port; 0 takes a free one.
    """

    def __init__(
        self, upstream: str, slots_folder: Path, *, order: Order | None = None, slot: int = 0, port: int = 0
    ) -> None:
        self.url = ""
        self.plan: FaultPlan | None = None
        self.history: list[Injection] = []
        self._upstream = upstream.rstrip("/")
        self._slots_folder = slots_folder
        self._order = order
        self._slot = slot
        self._port = port
        self._session: aiohttp.ClientSession | None = None
        self._injector: Injector | None = None
        self._runner: web.AppRunner | None = None

    def arm(self, plan: FaultPlan) -> None:
        """
        Hit the next matching generation, or all of them if the plan is sticky.

        Raises:
            SetupError: The plan needs a reach into the server's memory, and there is none.
        """
        if plan.onset_token and self._order is None:
            raise SetupError("a fault in a running request needs a backend started with allow_faults")
        self.plan = plan

    def disarm(self) -> None:
        """Hit nothing more. What is corrupted stays corrupted; see `heal`."""
        self.plan = None

    def fields(self) -> dict[str, Any]:
        """Requests carry nothing for it: the proxy sees them all."""
        return {}

    @property
    def hint(self) -> str:
        """How to spoil an answer by hand."""
        return f'curl {self.url}/lab/fault -d \'{{"fault": "noise"}}\'   # corrupt the next answer\'s cache'

    async def heal(self) -> None:
        """Erase the slot that faults were put into, so that no later prompt reuses its rows."""
        await self._ready_injector().erase()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # llama.cpp closes its connection after a streamed reply without having said so.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
        )
        self._injector = Injector(self._session, self._upstream, self._slots_folder, self._order, self._slot)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/lab/fault", self._control)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # A client that leaves must end the upstream request too, or the slot stays busy.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        except BaseException:
            await self._close()
            raise
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def _ready_injector(self) -> Injector:
        if self._injector is None:
            raise RuntimeError("the faulty replica was not started")
        return self._injector

    async def _control(self, request: web.Request) -> web.Response:
        try:
            if request.method == "POST":
                self.arm(msgspec.json.decode(await request.read(), type=FaultPlan))
            elif request.method == "DELETE":
                self.disarm()
                await self.heal()
        except (msgspec.DecodeError, SetupError) as error:
            return web.json_response({"error": str(error)}, status=400)
        state = {"plan": self.plan, "history": self.history}
        return web.Response(body=msgspec.json.encode(state), content_type="application/json")

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        plan = self._take_plan(request, body)
        if plan is None:
            return await self._forward(request, body)
        pinned = pin_to_slot(body, self._slot)
        injector = self._ready_injector()
        try:
            await injector.prepare(plan)
            if plan.onset_token == 0:
                self.history.append(await injector.spoil_prompt(plan, request.path, pinned))
                return await self._forward(request, pinned)
        except (SetupError, aiohttp.ClientError, OSError, ValueError) as error:
            return web.json_response({"error": f"the fault could not be injected: {error}"}, status=500)
        return await self._forward(request, pinned, self._late_write(plan, request.path))

    def _take_plan(self, request: web.Request, body: bytes) -> FaultPlan | None:
        """The plan, if this request is one to be hit; used up unless it is sticky."""
        plan = self.plan
        if plan is None or request.method != "POST" or request.path not in GENERATION_PATHS:
            return None
        if plan.match.encode() not in body or not may_reuse_cache(body):
            return None
        if plan.onset_token and not is_streamed(body):  # its tokens do not pass by one by one
            return None
        if not plan.sticky:
            self.plan = None
        return plan

    def _late_write(self, plan: FaultPlan, path: str) -> Callable[[bytes], Awaitable[None]]:
        """What watches one reply and spoils its slot once, when enough tokens went by."""
        counter = TokenCounter()
        done = False

        async def before_write(piece: bytes) -> None:
            nonlocal done
            if done:
                return
            counter.feed(piece)
            if counter.tokens >= plan.onset_token:
                done = True
                write = self._ready_injector().spoil_running
                self.history.append(await write(plan, path, counter.tokens, counter.context_tokens))

        return before_write

    async def _forward(
        self,
        request: web.Request,
        body: bytes,
        before_write: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> web.StreamResponse:
        assert self._session is not None
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.raw_path,
                headers=upstream_headers(request),
                data=body or None,
                allow_redirects=False,
            ) as upstream:
                return await relay(request, upstream, before_write)
        except aiohttp.ClientConnectorError as error:
            return web.json_response({"error": f"the backend is gone: {error}"}, status=502)


def may_reuse_cache(body: bytes) -> bool:
    """Whether a request lets the server reuse what it has cached, as it does unless told not to."""
    try:
        fields = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(fields, dict) and fields.get("cache_prompt") is not False


def is_streamed(body: bytes) -> bool:
    """Whether a request, known to be a JSON object, asks for its reply token by token."""
    return msgspec.json.decode(body, type=_Streamed).stream is True


def pin_to_slot(body: bytes, slot: int) -> bytes:
    """The same request, tied to one slot; all other values keep their bytes."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["id_slot"] = msgspec.Raw(str(slot).encode())
    return msgspec.json.encode(fields)
