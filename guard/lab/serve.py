"""What `guard serve` does: put the configuration together, load the policy, run."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator

import msgspec

from guard.config import Config, UpstreamSettings, load_config, url_problem
from guard.detect.baseline import Baseline
from guard.errors import ConfigError
from guard.lab.baseline import find_baseline
from guard.observe.log import configure
from guard.server.policies import PolicySet
from guard.server.run import Running, serve


def configured(args: argparse.Namespace) -> Config:
    """
    The configuration that a command line asks for.

    Args:
        args: Parsed arguments of `guard serve`.

    Raises:
        ConfigError: No backend is named, two ways of naming one are mixed, or something is wrong.
    """
    embedded = args.backend == "embedded"
    for url in args.upstream:
        problem = url_problem(url)
        if problem:
            raise ConfigError(problem, where="--upstream")
    if len({url.rstrip("/") for url in args.upstream}) < len(args.upstream):
        raise ConfigError("a replica is named twice; give each once", where="--upstream")
    if embedded and (args.upstream or args.config):
        raise ConfigError(
            "the embedded backend is its own upstream; leave --upstream and --config out", where="--backend"
        )
    if args.config is not None:
        config = load_config(args.config)
    elif args.upstream or embedded:
        config = Config(upstreams=[])
    else:
        raise ConfigError("name a backend: --upstream URL, --config FILE, or --backend embedded to try one out")
    if args.upstream:
        config = msgspec.structs.replace(config, upstreams=[UpstreamSettings(url=url) for url in args.upstream])
    return _overridden(config, args)


def _overridden(config: Config, args: argparse.Namespace) -> Config:
    listen, admin, log = config.listen, config.admin, config.log
    if args.host is not None:
        listen = msgspec.structs.replace(listen, host=args.host)
    if args.port is not None:
        listen = msgspec.structs.replace(listen, port=_port(args.port, "--port"))
    if args.admin_port is not None:
        admin = msgspec.structs.replace(admin, port=_port(args.admin_port, "--admin-port"))
    if args.log_level is not None:
        log = msgspec.structs.replace(log, level=args.log_level)
    policy = args.policy if args.policy is not None else config.policy
    return msgspec.structs.replace(config, listen=listen, admin=admin, log=log, policy=policy)


def _port(port: int, option: str) -> int:
    if not 0 <= port <= 65535:
        raise ConfigError(f"{port} is no port; it must lie between 0 and 65535", where=option)
    return port


async def serve_command(config: Config, *, embedded: bool) -> None:
    """
    Serve until told to stop.

    Args:
        config: From `configured`.
        embedded: Start the embedded backend and guard it.

    Raises:
        GuardError: A file is wrong, a port is taken, or the embedded backend cannot be started.
    """
    configure(config.log.level, human=config.log.format == "human" or sys.stderr.isatty())
    named = [config.policy] if isinstance(config.policy, str) else config.policy
    policies = PolicySet(named, config.shadow_policy)
    if not embedded:
        await serve(config, policies, baselines_of(config), _announce)
        return
    async with embedded_upstream() as (upstream, baseline):
        config = msgspec.structs.replace(config, upstreams=[upstream])
        await serve(config, policies, {upstream.url: baseline}, _announce)


@contextlib.asynccontextmanager
async def embedded_upstream() -> AsyncIterator[tuple[UpstreamSettings, Baseline]]:
    """The embedded backend as an upstream, with its draft's measured acceptance."""
    from guard.lab.draft import DEFAULT_DRAFT  # noqa: PLC0415 - needs the demo extra
    from guard.lab.embedded import EmbeddedBackend  # noqa: PLC0415

    async with EmbeddedBackend() as backend:
        depth = backend.num_speculative_tokens
        baseline = find_baseline(DEFAULT_DRAFT, depth)
        upstream = UpstreamSettings(url=backend.url, name="embedded", engine="llama.cpp", num_speculative_tokens=depth)
        yield upstream, baseline


def baselines_of(config: Config) -> dict[str, Baseline]:
    """Healthy acceptance of every upstream that names a profile, by its URL."""
    return {
        upstream.url: find_baseline(upstream.profile, upstream.num_speculative_tokens)
        for upstream in config.upstreams
        if upstream.profile is not None
    }


def _announce(running: Running) -> None:
    print(
        f"guard: clients connect to {running.url}, operators to {running.admin_url}",
        file=sys.stderr,
        flush=True,
    )
