"""The admin port: health, metrics, the live feed, what became of a request, and the dashboard."""

from __future__ import annotations

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from guard import __version__
from guard.server.app import Guard
from guard.server.dashboard import Dashboard


def admin_application(guard: Guard) -> web.Application:
    """
    The admin application of one guard.

    Args:
        guard: The process's shared state.
    """
    registry = CollectorRegistry()
    registry.register(guard.metrics)

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "version": __version__})

    async def readyz(_: web.Request) -> web.Response:
        state = "draining" if guard.draining else "ready"
        return web.json_response({"status": state}, status=503 if guard.draining else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def policies(_: web.Request) -> web.Response:
        body = msgspec.json.encode(guard.policies.policies)
        return web.Response(body=body, content_type="application/json")

    async def shadow(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(guard.policies.shadow_report()), content_type="application/json")

    async def baselines(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(guard.baselines.report()), content_type="application/json")

    async def capabilities(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(guard.capabilities.report()), content_type="application/json")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/guard/live", guard.live.serve)
    app.router.add_get("/guard/policies", policies)
    app.router.add_get("/guard/baselines", baselines)
    app.router.add_get("/guard/shadow", shadow)
    app.router.add_get("/guard/capabilities", capabilities)
    Dashboard(guard, guard.sharing.store if guard.config.store is not None else None).add_to(app)
    return app
