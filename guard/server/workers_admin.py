"""The supervisor's admin port: what its workers say, as if they were one guard."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from yarl import URL

from guard import __version__
from guard.observe.history import Stretch, drawn, merged
from guard.server import workers_view
from guard.server.admin_access import AdminAccess
from guard.server.dashboard import MOST_LISTED
from guard.server.feed import HEADERS, PATIENCE
from guard.server.headers import end_to_end
from guard.server.what_if import TIMEOUT
from guard.server.workers import Supervisor, Worker, fetch

#: How long a worker may take to answer. Unit: seconds.
ANSWER = 2.0
#: How long one may take for a "what if", a little longer than it gives itself. Unit: seconds.
WHAT_IF = TIMEOUT + 5.0
#: Before a worker that was lost is asked for its events again. Unit: seconds.
PAUSE = 0.5
#: Exchanges on the page of the latest.
LATEST = 100

_DATA = re.compile(rb"^data: \{", re.MULTILINE)
_MERGES: Mapping[str, Callable[[Sequence[Any]], object]] = {
    "/guard/replicas": workers_view.replicas,
    "/guard/baselines": workers_view.baselines,
    "/guard/shadow": workers_view.shadow,
    "/guard/policies/source": workers_view.sources,
}


class WorkersAdmin:
    """
    The handlers.

    Args:
        supervisor: Whose workers.
        session: To ask them with.
        access: Lets in who may use the admin port.
    """

    def __init__(self, supervisor: Supervisor, session: aiohttp.ClientSession, access: AdminAccess) -> None:
        self._supervisor = supervisor
        self._access = access
        self._session = session
        self._registry = CollectorRegistry()
        self._registry.register(supervisor.metrics)

    def application(self) -> web.Application:
        """All routes; those not named here are answered by a worker."""
        app = web.Application(middlewares=[self._access.middleware()])
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/guard/live", self._live)
        app.router.add_get("/guard/streams", self._live)
        app.router.add_get("/guard/requests", self._requests)
        app.router.add_get("/guard/history", self._history)
        app.router.add_get("/guard/status", self._status)
        for path, merge in _MERGES.items():
            app.router.add_get(path, self._merged(merge))
        app.router.add_post("/guard/what-if", self._what_if)
        app.router.add_route("*", "/{path:.*}", self._any)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        workers = [
            {"worker": worker.index, "serves": worker.admin_url is not None, "restarts": worker.restarts}
            for worker in self._supervisor.workers
        ]
        return web.json_response({"status": "ok", "version": __version__, "workers": workers})

    async def _readyz(self, request: web.Request) -> web.Response:
        """Ready once all workers serve, and then as long as one does: it gets all connections."""
        supervisor = self._supervisor
        state = "draining" if supervisor.draining else "starting"
        if supervisor.started and not supervisor.draining:
            answers = await self._ask_all("/readyz", request)
            ready = sum(answer is not None for answer in answers)
            if ready:
                return web.json_response({"status": "ready", "workers": ready, "of": len(supervisor.workers)})
            state = "not ready"
        return web.json_response({"status": state}, status=503)

    async def _metrics(self, request: web.Request) -> web.Response:
        await self._supervisor.scrape(self._session, self._headers(request))
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _requests(self, request: web.Request) -> web.Response:
        try:
            limit = max(1, int(request.query.get("limit", LATEST)))
        except ValueError:
            limit = LATEST
        answers = await self._told(request.path_qs, request)
        return _json(workers_view.exchanges(answers, min(limit, MOST_LISTED)))

    async def _history(self, request: web.Request) -> web.Response:
        seconds = request.query.get("seconds", "")
        # All have to cut the time into the same pieces.
        ask = URL.build(path="/guard/history/sums", query={"now": str(time.time()), "seconds": seconds})
        answers = [body for body in await self._ask_all(str(ask), request) if body is not None]
        if not answers:
            return _nobody()
        return _json(drawn(merged([msgspec.json.decode(body, type=Stretch) for body in answers])))

    async def _status(self, request: web.Request) -> web.Response:
        answers = await self._told("/guard/status", request)
        if not answers:
            return _nobody()
        supervisor = self._supervisor
        count = len(supervisor.workers)
        return _json(workers_view.status(answers, draining=supervisor.draining, workers=count))

    def _merged(self, merge: Callable[[Sequence[Any]], object]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            answers = await self._told(request.path_qs, request)
            return _json(merge(answers)) if answers else _nobody()

        return handler

    async def _what_if(self, request: web.Request) -> web.StreamResponse:
        """Takes seconds, and is one worker's: asked twice it would run twice."""
        return await self._pass(request, self._supervisor.serving[:1], WHAT_IF)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        """A request's own page is with one worker; any other page is the same with all."""
        return await self._pass(request, self._supervisor.serving, ANSWER)

    async def _pass(self, request: web.Request, workers: Sequence[Worker], seconds: float) -> web.StreamResponse:
        body, headers = await request.read(), self._headers(request)
        last: web.StreamResponse = _nobody()
        for worker in workers:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.request(
                    request.method,
                    f"{worker.admin_url}{request.path_qs}",
                    data=body or None,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=seconds),
                ) as answer:
                    kept = end_to_end(answer.headers)
                    kept.popall("Content-Length", None)
                    last = web.Response(status=answer.status, body=await answer.read(), headers=kept)
                if last.status != 404:
                    break
        return last

    async def _told(self, path: str, request: web.Request) -> list[Any]:
        return [msgspec.json.decode(body) for body in await self._ask_all(path, request) if body is not None]

    async def _ask_all(self, path: str, request: web.Request) -> list[bytes | None]:
        serving, headers = self._supervisor.serving, self._headers(request)
        return await asyncio.gather(*(fetch(self._session, worker, path, headers) for worker in serving))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """The events of all workers, in the order they come, until the supervisor is told to stop."""
        response = web.StreamResponse(headers=HEADERS)
        workers, begun = self._supervisor.workers, asyncio.Event()
        asked = [asyncio.Event() for _ in workers]
        try:
            async with asyncio.TaskGroup() as group:
                for worker, answered in zip(workers, asked, strict=True):
                    group.create_task(self._pass_on(worker, request, response, answered, begun))
                # Who has the head misses nothing that begins after it.
                for answered in asked:
                    await answered.wait()
                await response.prepare(request)
                begun.set()
        except* ConnectionError:
            # The reader went, or reads nothing.
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _pass_on(
        self,
        worker: Worker,
        request: web.Request,
        response: web.StreamResponse,
        answered: asyncio.Event,
        begun: asyncio.Event,
    ) -> None:
        """One worker's events, each with its number; those of the process after it as well."""
        endless = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER, sock_read=None)
        marked = b'data: {"w":%d,' % worker.index
        while not self._supervisor.draining:
            rest = b""
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with (
                    asyncio.timeout(ANSWER) as patience,
                    self._session.get(
                        f"{worker.admin_url}{request.path_qs}", timeout=endless, headers=self._headers(request)
                    ) as answer,
                ):
                    patience.reschedule(None)
                    answered.set()
                    await begun.wait()
                    async for data in answer.content.iter_any():
                        whole, found, rest = (rest + data).rpartition(b"\n\n")
                        if found:
                            # Numbers of streams are each worker's own.
                            await _write(response, _DATA.sub(marked, whole + found))
            answered.set()
            await begun.wait()
            if request.path == "/guard/streams":
                await _write(response, b"event: snapshot\n" + marked + b'"open":0,"streams":[]}\n\n')
            await asyncio.sleep(PAUSE)

    def _headers(self, request: web.Request) -> dict[str, str]:
        """What a worker has to see of a request: it asks for the same token, and knows no sessions."""
        kept = ("Authorization", "Content-Type", "Accept", "If-None-Match")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        session = self._access.authorization(request)
        return headers if session is None else {**headers, "Authorization": session}


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Write to a reader, who is as good as gone when it reads nothing. Raises ConnectionError."""
    try:
        async with asyncio.timeout(PATIENCE):
            await response.write(data)
    except TimeoutError as error:
        raise ConnectionResetError("the reader reads nothing") from error


def _json(body: object) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=msgspec.json.encode(body), headers=headers, content_type="application/json")


def _nobody() -> web.Response:
    return web.json_response({"error": "no worker serves"}, status=503)
