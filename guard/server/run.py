"""Starts both ports, waits for a signal, drains."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import structlog
from aiohttp import web

from guard.clock import MonotonicClock
from guard.config import Config, Listen
from guard.detect.baseline import Baseline
from guard.errors import SetupError
from guard.observe.recorder import Recorder
from guard.policy.judge import Judge
from guard.server.admin import admin_application
from guard.server.app import Guard
from guard.server.baselines import Baselines
from guard.server.discovery import Discovery, DnsResolver
from guard.server.health import HealthChecks
from guard.server.policies import PolicySet
from guard.server.sharing import store_for
from guard.server.upstream import UpstreamPool

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Running(NamedTuple):
    """A guard that serves."""

    guard: Guard
    url: str
    admin_url: str


@contextlib.asynccontextmanager
async def running_guard(
    config: Config, judge: Judge | PolicySet, baselines: dict[str, Baseline] | None = None
) -> AsyncIterator[Running]:
    """
    A guard on its two ports for as long as the context lasts; then it drains and stops.

    Args:
        config: Validated configuration.
        judge: The policies, reloaded when their files change; or one compiled policy for every request.
        baselines: Healthy acceptance by upstream URL.

    Raises:
        SetupError: A port cannot be had.
        ConfigError: The store's password cannot be had.
    """
    by_url = baselines or {}
    learned = Baselines({u.name or u.url.rstrip("/"): by_url[u.url] for u in config.upstreams if u.url in by_url})
    clock = MonotonicClock()
    fixed = [upstream for upstream in config.upstreams if upstream.resolve is None]
    store = store_for(config, clock)
    pool = UpstreamPool(fixed, learned, config.timeouts, clock, config.pool, store)
    policies = judge if isinstance(judge, PolicySet) else PolicySet.of(judge.policy)
    recorder = Recorder(config.recording) if config.recording is not None else None
    guard = Guard(config, policies, pool, clock, learned, store, recorder)
    await pool.open()
    await store.open()
    named = [upstream for upstream in config.upstreams if upstream.resolve is not None]
    discovery = Discovery(pool, named, config.pool.dns, DnsResolver(config.pool.dns)) if named else None
    if discovery is not None:
        await discovery.start()
    checks = HealthChecks(pool, config.pool.health, clock, random.Random())
    running = (policies.watch(), checks.run(), guard.sharing.run())
    watches = [asyncio.create_task(run) for run in running]
    if discovery is not None:
        watches.append(asyncio.create_task(discovery.run()))
    try:
        async with (
            _port(admin_application(guard), config.admin, "admin", drain=1.0) as admin_url,
            _port(guard.application(), config.listen, "listen", drain=config.timeouts.drain) as url,
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
        await store.close()
        await pool.close()
        if recorder is not None:
            await asyncio.to_thread(recorder.close)


@contextlib.asynccontextmanager
async def _port(app: web.Application, listen: Listen, setting: str, drain: float) -> AsyncIterator[str]:
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        shutdown_timeout=drain,
        keepalive_timeout=75.0,
        max_field_size=32 * 1024,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port)
        try:
            await site.start()
        except OSError as error:
            raise SetupError(
                f"cannot listen on {listen.host}:{listen.port}: {error.strerror}; "
                f"change {setting}.port, or stop what uses it"
            ) from error
        host, port = runner.addresses[0][:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        await runner.cleanup()


async def serve(
    config: Config,
    judge: Judge | PolicySet,
    baselines: dict[str, Baseline] | None = None,
    announce: Callable[[Running], None] | None = None,
) -> None:
    """
    Serve until SIGTERM or SIGINT, then let streams in flight finish within `timeouts.drain`.

    Args:
        config: Validated configuration.
        judge: The policies, reloaded when their files change and on SIGHUP; or one compiled policy.
        baselines: Healthy acceptance by upstream URL.
        announce: Called once both ports are open.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_guard(config, judge, baselines) as running:
        loop.add_signal_handler(signal.SIGHUP, running.guard.policies.reload_soon)
        _log.info(
            "listening",
            url=running.url,
            admin=running.admin_url,
            policies=[policy.name for policy in running.guard.policies.policies],
            upstreams=[upstream.url for upstream in config.upstreams],
        )
        if announce is not None:
            announce(running)
        await stop.wait()
        _log.info("draining", in_flight=running.guard.metrics.in_flight)
    _log.info("stopped")
