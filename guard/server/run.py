"""Starts both ports, waits for a signal, drains."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, NamedTuple

import structlog
from aiohttp import web

from guard.clock import MonotonicClock, steady_wall
from guard.compiled import build_name
from guard.config import Config
from guard.detect.baseline import Baseline
from guard.observe.recorder import Recorder
from guard.observe.tracing import Tracing
from guard.policy.judge import Judge
from guard.server.admin import admin_application
from guard.server.app import Guard
from guard.server.baselines import Baselines
from guard.server.capabilities import AiohttpAsker
from guard.server.client_port import client_runner
from guard.server.collector import Collector
from guard.server.doors import Doors
from guard.server.drained import watch_drained
from guard.server.health import HealthChecks
from guard.server.kept import kept
from guard.server.outgoing import Outgoing
from guard.server.policies import PolicySet
from guard.server.ports import listen_on
from guard.server.probes import Asker
from guard.server.rescore import Rescorer
from guard.server.sharing import store_for
from guard.server.upstream import UpstreamPool
from guard.types import ReplicaId

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
#: What requests that are still open get when a port closes. Unit: seconds.
CLOSING = 0.25
#: How long connections without a request stay open when the drain begins: who keeps one may be sending on it now, and
#: would not know whether that was read. Unit: seconds.
LINGER = 1.0
#: Between two looks whether there are any. Unit: seconds.
LOOK = 0.02


class Running(NamedTuple):
    """A guard that serves."""

    guard: Guard
    url: str
    admin_url: str

    async def settled(self) -> None:
        """
        Wait until no request is open. Whoever asks for the record of an answer that was just read needs it: the answer
        goes out with its last token, and the record is made when the backend has ended its stream.
        """
        await self.guard.gate.empty()


@contextlib.asynccontextmanager
async def running_guard(
    config: Config,
    judge: Judge | PolicySet,
    baselines: dict[str, Baseline] | None = None,
    *,
    prove: bool = False,
    shared_port: bool = False,
) -> AsyncIterator[Running]:
    """
    A guard on its two ports for as long as the context lasts; then it drains and stops.

    Args:
        config: Validated configuration.
        judge: The policies, reloaded when their files change; or one compiled policy for every request.
        baselines: Healthy acceptance by upstream URL.
        prove: Try what each replica can do, and again when its version changes.
        shared_port: Other processes listen on the client port too (SO_REUSEPORT).

    Raises:
        SetupError: A port cannot be had.
        ConfigError: The store's password cannot be had.
    """
    learned = _measured(config, baselines or {})
    clock, outgoing = MonotonicClock(), Outgoing(config.access, config.upstream_tls)
    fixed = [upstream for upstream in config.upstreams if upstream.resolve is None]
    wall = steady_wall(clock)
    store = store_for(config, clock, wall)
    pool = UpstreamPool(fixed, learned, config.timeouts, clock, config.pool, store, wall, outgoing)
    policies = judge if isinstance(judge, PolicySet) else PolicySet.of(judge.policy)
    recorder = Recorder(config.recording) if config.recording is not None else None
    tracing = Tracing(config.tracing) if config.tracing is not None else None
    rescorer = Rescorer(pool, clock, config.audit, lambda replica: pool.charge(replica, bad=True))
    guard = Guard(config, policies, pool, clock, learned, store, recorder, tracing, rescorer)
    doors = Doors(config, guard.gate, outgoing)
    watch_drained(config.pool.drained_file, pool, doors.watched)
    await pool.open()
    doors.watch(pool.session.headers)
    await store.open()
    checks = HealthChecks(pool, config.pool.health, clock, random.Random())
    running: dict[str, Callable[[], Awaitable[object]]] = {
        "policies": policies.watch,
        "files": doors.watched.run,
        "health": checks.run,
        "sharing": guard.sharing.run,
        **await _found(config, pool),
    }
    if prove:
        running["capabilities"] = lambda: pool.capabilities.run(lambda: _askers(pool))
    watches = [asyncio.create_task(kept(name, run), name=name) for name, run in running.items()]
    try:
        async with (
            _port(_admin_runner(doors.admin(admin_application(guard)), config), doors, config, "admin") as admin_url,
            _port(_client_runner(guard, config), doors, config, "listen", guard.drain, shared=shared_port) as url,
        ):
            try:
                yield Running(guard, url, admin_url)
            finally:
                guard.draining = True
                guard.live.close()
                guard.streams.close()
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await asyncio.gather(rescorer.close(), guard.withdrawals.close(), guard.sharing.close())
        await store.close()
        await pool.close()
        for closing in (recorder, tracing):
            if closing is not None:
                await asyncio.to_thread(closing.close)


def _measured(config: Config, by_url: dict[str, Baseline]) -> Baselines:
    return Baselines({u.name or u.url.rstrip("/"): by_url[u.url] for u in config.upstreams if u.url in by_url})


async def _found(config: Config, pool: UpstreamPool) -> dict[str, Callable[[], Awaitable[object]]]:
    """What keeps looking for the replicas that only have a name, after it has looked once."""
    named = [upstream for upstream in config.upstreams if upstream.resolve is not None]
    if not named:
        return {}
    from guard.server.discovery import Discovery, DnsResolver  # noqa: PLC0415 - its resolver takes long to import

    discovery = Discovery(pool, named, config.pool.dns, DnsResolver(config.pool.dns))
    await discovery.start()
    return {"discovery": discovery.run}


def _askers(pool: UpstreamPool) -> list[tuple[ReplicaId, Asker]]:
    return [(upstream.name, AiohttpAsker(pool.session, upstream.url)) for upstream in pool.upstreams]


def _http_options(config: Config) -> dict[str, Any]:
    """How both ports speak HTTP, in the words of aiohttp's server."""
    return {
        "access_log": None,
        "handler_cancellation": True,
        "auto_decompress": False,
        "keepalive_timeout": 75.0,
        "max_field_size": config.limits.max_header_bytes,
        "max_line_size": config.limits.max_header_bytes,
    }


def _admin_runner(app: web.Application, config: Config) -> web.BaseRunner:
    return web.AppRunner(app, shutdown_timeout=CLOSING, **_http_options(config))


def _client_runner(guard: Guard, config: Config) -> web.BaseRunner:
    return client_runner(guard.handle, lambda: guard.draining, _http_options(config), CLOSING)


async def _let_go(server: web.Server | None, longest: float) -> None:
    """Wait until nobody keeps a connection any more, but not for long; then close those without a request."""
    if server is None:
        return
    for _ in range(round(longest / LOOK)):
        if not server.connections:
            break
        await asyncio.sleep(LOOK)
    server.pre_shutdown()  # the others are closed after their request


@contextlib.asynccontextmanager
async def _port(
    runner: web.BaseRunner,
    doors: Doors,
    config: Config,
    setting: Literal["listen", "admin"],
    drain: Callable[[float], Awaitable[None]] | None = None,
    *,
    shared: bool = False,
) -> AsyncIterator[str]:
    listen, context = config.listen if setting == "listen" else config.admin, doors.contexts[setting]
    await runner.setup()
    try:
        site = await listen_on(runner, listen, setting, context, shared=shared)
        host, port = runner.addresses[0][:2]
        yield f"{'http' if context is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
        if drain is not None:
            await asyncio.sleep(0)  # who waits to be accepted is, and not reset
            await site.stop()
            began = asyncio.get_running_loop().time()
            await _let_go(runner.server, min(LINGER, config.timeouts.drain))
            await drain(asyncio.get_running_loop().time() - began)
    finally:
        await runner.cleanup()


async def serve(
    config: Config,
    judge: Judge | PolicySet,
    baselines: dict[str, Baseline] | None = None,
    announce: Callable[[Running], None] | None = None,
    *,
    shared_port: bool = False,
    asked: Callable[[], None] | None = None,
) -> int:
    """
    Serve until SIGTERM or SIGINT, then let streams in flight finish within `timeouts.drain`. A second signal
    ends them at once.

    Args:
        config: Validated configuration.
        judge: The policies, reloaded when their files change and on SIGHUP; or one compiled policy.
        baselines: Healthy acceptance by upstream URL.
        announce: Called once both ports are open.
        shared_port: See `running_guard`.
        asked: Called on SIGHUP too, in a thread of its own.

    Returns:
        How many requests were cut.

    Raises:
        CancelledError: A second signal came.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    me = asyncio.current_task()
    assert me is not None

    def told() -> None:
        if stop.is_set():
            _log.warning("quitting at once")
            me.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    policies = judge if isinstance(judge, PolicySet) else PolicySet.of(judge.policy)

    def reload() -> None:
        policies.reload_soon()
        if asked is not None:
            loop.run_in_executor(None, asked)

    loop.add_signal_handler(signal.SIGHUP, reload)  # before anything else: its default ends the process
    prove = config.capabilities == "prove"
    async with running_guard(config, policies, baselines, prove=prove, shared_port=shared_port) as running:
        _log.info(
            "listening",
            url=running.url,
            admin=running.admin_url,
            policies=[policy.name for policy in running.guard.policies.policies],
            upstreams=[upstream.url for upstream in config.upstreams],
            build=build_name(),
        )
        guard = running.guard
        collector = Collector(lambda: guard.gate.inside, guard.clock)
        collecting = asyncio.create_task(kept("collector", collector.run), name="collector")
        if announce is not None:
            announce(running)
        try:
            await stop.wait()
        finally:
            collecting.cancel()
        _log.info("draining", in_flight=guard.gate.inside, longest_s=config.timeouts.drain)
    (_log.warning if guard.cut else _log.info)("stopped", cut=guard.cut)
    return guard.cut
