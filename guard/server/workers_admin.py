"""The supervisor's admin port: what its workers say, as if they were one guard."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from guard import __version__
from guard.server.admin_access import AdminAccess
from guard.server.workers import Supervisor, Worker, fetch

#: How long a worker may take to answer. Unit: seconds.
ANSWER = 2.0
#: Exchanges on the page of the latest.
LATEST = 100


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
        app.router.add_route("*", "/{path:.*}", self._any)
        return app

    async def _healthz(self, _: web.Request) -> web.Response:
        workers = [
            {"worker": worker.index, "serves": worker.admin_url is not None, "restarts": worker.restarts}
            for worker in self._supervisor.workers
        ]
        return web.json_response({"status": "ok", "version": __version__, "workers": workers})

    async def _readyz(self, request: web.Request) -> web.Response:
        """Ready when every worker is."""
        supervisor = self._supervisor
        state = "draining" if supervisor.draining else "starting"
        if not supervisor.draining and len(supervisor.serving) == len(supervisor.workers):
            answers = await self._ask_all("/readyz", request)
            if all(answer is not None for answer in answers):
                return web.json_response({"status": "ready"})
            state = "not ready"
        return web.json_response({"status": state}, status=503)

    async def _metrics(self, request: web.Request) -> web.Response:
        await self._supervisor.scrape(self._session, self._headers(request))
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _requests(self, request: web.Request) -> web.Response:
        answers = await self._ask_all(request.path_qs, request)
        lists = [msgspec.json.decode(body) for body in answers if body is not None]
        # Each is newest first; taken in turns, for their lines have no time.
        longest = max(map(len, lists), default=0)
        turns = [one[place] for place in range(longest) for one in lists if place < len(one)]
        return web.Response(body=msgspec.json.encode(turns[:LATEST]), content_type="application/json")

    async def _any(self, request: web.Request) -> web.StreamResponse:
        """A request's own page is with one worker; any other page is the same with all."""
        body, headers = await request.read(), self._headers(request)
        last: tuple[int, bytes, str] = (503, b'{"error": "no worker serves"}', "application/json")
        for worker in self._supervisor.serving:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.request(
                    request.method, f"{worker.admin_url}{request.path_qs}", data=body or None, headers=headers
                ) as answer:
                    last = answer.status, await answer.read(), answer.headers.get("Content-Type", "text/plain")
                if last[0] != 404:
                    break
        return web.Response(status=last[0], body=last[1], headers={"Content-Type": last[2]})

    async def _ask_all(self, path: str, request: web.Request) -> list[bytes | None]:
        serving, headers = self._supervisor.serving, self._headers(request)
        return await asyncio.gather(*(fetch(self._session, worker, path, headers) for worker in serving))

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """The events of all workers that serve now, in the order they come."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                for worker in self._supervisor.serving:
                    group.create_task(self._pass_on(worker, request, response))
        return response

    async def _pass_on(self, worker: Worker, request: web.Request, response: web.StreamResponse) -> None:
        endless = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER)
        rest = b""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.get(
                f"{worker.admin_url}{request.path_qs}", timeout=endless, headers=self._headers(request)
            ) as answer:
                async for data in answer.content.iter_any():
                    whole, found, rest = (rest + data).rpartition(b"\n\n")
                    if found:
                        await response.write(whole + found)

    def _headers(self, request: web.Request) -> dict[str, str]:
        """What a worker has to see of a request: it asks for the same token, and knows no sessions."""
        kept = ("Authorization", "Content-Type", "Accept")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        session = self._access.authorization(request)
        return headers if session is None else {**headers, "Authorization": session}
