"""A guard in front of a scripted backend."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from guard.config import AdminListen, Config, Limits, Listen, TimeoutSettings, UpstreamSettings
from guard.fleet.settings import HealthSettings, PoolSettings
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.server.run import Running, running_guard

#: Scripted backends know no questions but those of their script.
QUIET = PoolSettings(health=HealthSettings(interval=0.0), confirm_aborts=0.0)


@contextlib.asynccontextmanager
async def guarded(
    *urls: str,
    policy: Policy,
    engine: str = "vllm",
    limits: Limits | None = None,
    timeouts: TimeoutSettings | None = None,
    pool: PoolSettings | None = None,
    **more: Any,
) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    """A running guard and a plain HTTP client; `more` are further sections of the configuration."""
    ports = {"listen": Listen(port=0), "admin": AdminListen(port=0)}
    config = Config(
        upstreams=[UpstreamSettings(url=url, engine=engine) for url in urls],  # type: ignore[arg-type]
        limits=limits or Limits(),
        timeouts=timeouts or TimeoutSettings(drain=0.2),
        pool=pool or QUIET,
        **(ports | more),
    )
    async with running_guard(config, Judge(policy)) as running, aiohttp.ClientSession() as client:
        yield running, client
