"""The sidecar's configuration: strict, frozen, and every error says where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from guard.fleet.settings import PoolSettings, problem
from guard.observe.recorder import RecorderSettings
from guard.retry.budget import Budget, parse_share
from guard.shipped import read_text
from guard.state.settings import StoreSettings, problems
from guard.yamldoc import Document, to_struct

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Bytes = Annotated[int, Meta(ge=1024)]


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a port listens. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: Port = 8000


class UpstreamSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    One replica.

    Args:
        url: Base URL, with any path prefix its routes have.
        resolve: Makes the URL's host a name that is resolved again and again, each address being one replica: "host"
            by its A or AAAA records (a headless service of Kubernetes), "srv" by its SRV records. Only with http.
        name: Name in logs and metrics; the URL if not given.
        engine: Which signal to read; "auto" asks the backend.
        num_speculative_tokens: Draft depth k. Unit: tokens. Needed only for vLLM without the plugin.
        profile: Healthy acceptance of this deployment (a profile.yaml of draft_models/).
    """

    url: str
    resolve: Literal["host", "srv"] | None = None
    name: str = ""
    engine: Literal["auto", "llama.cpp", "vllm", "sglang", "text"] = "auto"
    num_speculative_tokens: Annotated[int, Meta(ge=1, le=64)] | None = None
    profile: str | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Caps on what one client or one backend can make the guard hold. Unit: bytes."""

    max_request_bytes: Bytes = 64 * 1024 * 1024
    max_event_bytes: Bytes = 8 * 1024 * 1024


class TimeoutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Unit: seconds.

    Args:
        connect: To open a connection to a backend.
        idle: Longest silence of a backend, before its first byte and between bytes.
        drain: Longest that streams in flight may take after SIGTERM.
        heartbeat: Silence of a stream after which a comment is sent to the client; none if not given.
    """

    connect: Seconds = 5.0
    idle: Seconds = 300.0
    drain: Seconds = 30.0
    heartbeat: Seconds | None = None


class RetryBudgetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    How many retries may be in flight over all guards of the fleet: the larger of the two.

    Args:
        share: Part of the client requests in flight, like "20%" or 0.2.
        floor: Retries that are always allowed.
    """

    share: str | float = "20%"
    floor: Annotated[int, Meta(ge=0, le=1_000_000)] = 3

    def budget(self) -> Budget:
        """
        As the planner has it.

        Raises:
            ValueError: The share is none.
        """
        return Budget(share=parse_share(self.share), floor=self.floor)


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "human"] = "json"


class DashboardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The dashboard on the admin port.

    Args:
        cases: Files of labelled streams, beside what is recorded, that "what if" tries a policy on.
    """

    cases: list[str] = []


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    All of it.

    Args:
        upstreams: At least one replica, all serving the same model.
        pool: How replicas are chosen, checked and left out.
        policy: Policy file; a bare name ("default") means a shipped policy. A list is tried in order, the
            first whose `match` fits a request is taken; the last one fits all.
        shadow_policy: A policy judged beside it; what it would have done is only counted.
        listen: Client port.
        admin: Admin port: health, metrics, live feed. Loopback unless told otherwise.
        recording: What of the traffic is recorded; nothing if not given.
        retry_budget: Bounds the load that retries add.
        store: A Redis that the guards of a fleet share; if not given, this guard is alone.
        dashboard: What the dashboard is given beside what the guard sees.
    """

    upstreams: list[UpstreamSettings]
    policy: str | list[str] = "default"
    shadow_policy: str | None = None
    listen: Listen = Listen()
    admin: Listen = Listen(port=8001)
    pool: PoolSettings = PoolSettings()
    limits: Limits = Limits()
    timeouts: TimeoutSettings = TimeoutSettings()
    log: LogSettings = LogSettings()
    recording: RecorderSettings | None = None
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()
    store: StoreSettings | None = None
    dashboard: DashboardSettings = DashboardSettings()


def load_config(path: Path) -> Config:
    """
    Read a configuration file.

    Raises:
        ConfigError: With file, line and setting.
    """
    text = read_text(path)
    document = Document(text, str(path))
    config = to_struct(document, Config)
    if not config.upstreams:
        document.fail("upstreams", "name at least one upstream")
    seen: dict[str, int] = {}
    for index, upstream in enumerate(config.upstreams):
        wrong = url_problem(upstream.url)
        if not wrong and upstream.resolve is not None:
            wrong = _resolve_problem(upstream)
        if wrong:
            document.fail(f"upstreams[{index}].url", wrong)
        name = upstream.name or upstream.url.rstrip("/")
        if name in seen:
            where = f"upstreams[{index}].{'name' if upstream.name else 'url'}"
            document.fail(where, f"{name!r} is upstreams[{seen[name]}] already; give each replica once")
        seen[name] = index
    found = problem(config.pool)
    if found is not None:
        document.fail(f"pool.{found[0]}", found[1])
    try:
        config.retry_budget.budget()
    except ValueError as error:
        document.fail("retry_budget.share", str(error))
    for where, wrong in problems(config.store) if config.store is not None else ():
        document.fail(f"store.{where}", wrong)
    return config


def _resolve_problem(upstream: UpstreamSettings) -> str:
    parts = urlsplit(upstream.url)
    if parts.scheme != "http":
        return "resolve works with http only: a certificate names the host, not its addresses"
    if upstream.resolve == "srv" and parts.port is not None:
        return "SRV records have the ports; leave the port out"
    return ""


def url_problem(url: str) -> str:
    """What is wrong with an upstream's URL; empty when nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{url!r} is not a URL: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return f"{url!r} is not a base URL; write it like http://127.0.0.1:8080"
    if parts.query or parts.fragment:
        return f"{url!r}: a base URL has no query and no fragment"
    return ""
