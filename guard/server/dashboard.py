"""The dashboard's routes on the admin port: its page, and what the page asks for. Nothing here changes the guard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from guard import __version__
from guard.core.record import ExchangeRecord
from guard.dashboard.account import detail_of, line_of
from guard.dashboard.assets import INDEX, SECURITY_HEADERS, assets
from guard.dashboard.edits import Edit, edited
from guard.detect.catalogue import CATALOGUE
from guard.errors import ConfigError
from guard.policy.schema import Policy
from guard.policy.written import written
from guard.server.app import Guard
from guard.server.what_if import WhatIf

#: Most exchanges in one answer.
MOST_LISTED = 500
#: Longest stretch of history. Unit: seconds.
LONGEST = 86_400.0


class Fleet(Protocol):
    """What other guards decided, where there is a store that they share."""

    async def recent_verdicts(self, limit: int) -> Sequence[Mapping[str, object]]:
        """The latest verdicts of all guards, newest first."""
        ...


class _Try(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policy: str
    edits: list[Edit]


class Dashboard:
    """
    The routes.

    Args:
        guard: The process's shared state.
        fleet: Verdicts of the other guards; None for a guard of its own.
    """

    def __init__(self, guard: Guard, fleet: Fleet | None = None) -> None:
        self._guard = guard
        self._fleet = fleet
        recording = guard.config.recording
        self._what_if = WhatIf(
            recording.folder if recording is not None else None,
            recording.name if recording is not None else "",
            guard.config.dashboard.cases,
        )

    def add_to(self, app: web.Application) -> None:
        """Add all routes to the admin application."""
        router = app.router
        router.add_get("/dashboard", self._index)
        router.add_get("/dashboard/", self._to_index)
        router.add_get("/dashboard/{name}", self._asset)
        router.add_get("/guard/status", self._status)
        router.add_get("/guard/history", self._history)
        router.add_get("/guard/history/sums", self._sums)
        router.add_get("/guard/streams", self._guard.streams.serve)
        router.add_get("/guard/requests", self._requests)
        router.add_get("/guard/requests/{id:.+}", self._request)
        router.add_get("/guard/replicas", self._replicas)
        router.add_get("/guard/policies/source", self._policies)
        router.add_get("/guard/fleet", self._verdicts)
        router.add_get("/guard/what-if", self._tries)
        router.add_post("/guard/what-if", self._try)

    async def _to_index(self, _: web.Request) -> web.Response:
        # Relative, so that it holds behind a proxy with a path of its own.
        raise web.HTTPFound("../dashboard")

    async def _index(self, request: web.Request) -> web.StreamResponse:
        return _file(request, INDEX)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        return _file(request, request.match_info["name"])

    async def _status(self, _: web.Request) -> web.Response:
        guard = self._guard
        recording = guard.config.recording
        return _json(
            {
                "version": __version__,
                "now": time.time(),
                "started_at": guard.started_at,
                "draining": guard.draining,
                "in_flight": guard.metrics.in_flight,
                "policies": [policy.name for policy in guard.policies.policies],
                "policy_generation": guard.policies.generation,
                "policy_reload_ok": guard.policies.last_reload_ok,
                "shadow": guard.policies.shadowed,
                "recording": recording.text if recording is not None else None,
                "fleet": self._fleet is not None,
                "retries": self._retries(),
            }
        )

    def _retries(self) -> dict[str, object]:
        """The retry budget as last seen: retries in flight on all guards, and how many may be."""
        store = self._guard.sharing.store
        allowed = self._guard.config.retry_budget.budget().allowance(store.fleet.active)
        return {
            "in_flight": store.fleet.retries,
            "allowed": allowed,
            "guards": store.fleet.guards,
            "degraded": store.degraded,
            "refused": self._guard.pool.retries_refused,
        }

    async def _history(self, request: web.Request) -> web.Response:
        seconds = min(_number(request, "seconds", 900.0), LONGEST)
        return _json(self._guard.history.answer(time.time(), max(seconds, 60.0)))

    async def _sums(self, request: web.Request) -> web.Response:
        """The same as sums, for a supervisor that adds those of its workers."""
        now, seconds = _number(request, "now", time.time()), min(_number(request, "seconds", 900.0), LONGEST)
        return _json(self._guard.history.stretch(now, max(seconds, 60.0)))

    async def _requests(self, request: web.Request) -> web.Response:
        ask = request.query
        limit = int(min(_number(request, "limit", 100.0), MOST_LISTED))

        def wanted(record: ExchangeRecord) -> bool:
            attempts = record.attempts
            return (
                (not (kind := ask.get("kind")) or any(attempt.kind == kind for attempt in attempts))
                and (not (replica := ask.get("replica")) or any(attempt.replica == replica for attempt in attempts))
                and (not (model := ask.get("model")) or record.model == model)
                and (not (outcome := ask.get("outcome")) or record.outcome == outcome)
                and (not (text := ask.get("q")) or text in record.request_id)
            )

        found = self._guard.records.latest(max(limit, 1), notable=ask.get("notable") == "1", wanted=wanted)
        return _json([line_of(record) for record in found])

    async def _request(self, request: web.Request) -> web.Response:
        guard, name = self._guard, request.match_info["id"]
        record = guard.streams.find(name)
        is_open = record is not None
        record = record or guard.records.get(name)
        if record is None:
            return _json({"error": "no such request, or no longer kept"}, status=404)
        lines = guard.recorder.lines(name) if guard.recorder is not None else {}
        return _json(detail_of(record, guard.policies.policies, lines, is_open=is_open))

    async def _replicas(self, _: web.Request) -> web.Response:
        guard = self._guard
        known = guard.baselines.report()
        told = guard.pool.report()
        return _json([{"name": name, **line, "baseline": known.get(name)} for name, line in told.items()])

    async def _policies(self, _: web.Request) -> web.Response:
        policies = self._guard.policies
        shadow = policies.policies[-1] if policies.shadowed else None
        return _json(
            {
                "generation": policies.generation,
                "reload_ok": policies.last_reload_ok,
                "policies": [{**written(policy), "is_shadow": policy is shadow} for policy in policies.policies],
                "shadow": policies.shadow_report(),
                "signals": {name: {"unit": spec.unit, "help": spec.help} for name, spec in CATALOGUE.items()},
            }
        )

    async def _verdicts(self, _: web.Request) -> web.Response:
        if self._fleet is None:
            return _json({"shared": False, "verdicts": []})
        return _json({"shared": True, "verdicts": await self._fleet.recent_verdicts(200)})

    async def _tries(self, _: web.Request) -> web.Response:
        recording = self._guard.config.recording
        body: list[dict[str, object]] = []
        for path in await asyncio.to_thread(self._what_if.files):
            with contextlib.suppress(FileNotFoundError):  # the recorder has just let go of it
                body.append({"name": path.name, "bytes": path.stat().st_size})
        return _json({"files": body, "text": recording.text if recording is not None else None})

    async def _try(self, request: web.Request) -> web.Response:
        # A page of another origin cannot send this type without being asked first, and nobody says yes.
        if request.content_type != "application/json":
            return _json({"error": "send application/json"}, status=415)
        try:
            asked = msgspec.json.decode(await request.read(), type=_Try)
            policy = self._policy(asked.policy)
            source = written(policy)
            body = await self._what_if.run(source, edited(source, asked.edits), self._baseline())
        except (ConfigError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return _json({"error": str(error)}, status=400)
        return web.Response(body=body, content_type="application/json")

    def _policy(self, name: str) -> Policy:
        found = next((policy for policy in self._guard.policies.policies if policy.name == name), None)
        if found is None:
            raise ConfigError(f"no policy in force is called {name!r}")
        return found

    def _baseline(self) -> float | None:
        """Healthy acceptance probability: the lowest of the replicas, so that none looks fallen by mistake."""
        guard = self._guard
        known = [guard.baselines.of(upstream.name) for upstream in guard.pool.upstreams]
        return min((baseline.probability for baseline in known if baseline is not None), default=None)


def _file(request: web.Request, name: str) -> web.StreamResponse:
    asset = assets().get(name)
    if asset is None:
        return _json({"error": "no such file"}, status=404)
    headers = {**SECURITY_HEADERS, "ETag": asset.tag, "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == asset.tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.body, headers={**headers, "Content-Type": asset.content_type})


def _json(body: object, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")


def _number(request: web.Request, name: str, default: float) -> float:
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        return default
    return value if 0 < value < float("inf") else default
