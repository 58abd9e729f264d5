"""What `guard serve` does: put the configuration together, load the policy, run."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path

import msgspec
import structlog

from guard.config import Config, Loaded, Option, UpstreamSettings, load
from guard.config_rules import doubts
from guard.detect.baseline import Baseline
from guard.environment import strangers
from guard.errors import ConfigError
from guard.lab.baseline import find_baseline
from guard.lab.open_files import room_for
from guard.lab.supervise import (
    Handed,
    announce_to_supervisor,
    handed_down,
    stop_with_supervisor,
    supervise_command,
    worker_config,
)
from guard.observe.log import configure, is_terminal, say
from guard.server.policies import PolicySet
from guard.server.run import Running, serve
from guard.server.watched import ReadOnce

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


def configured(args: argparse.Namespace) -> Config:
    """
    The configuration that a command line asks for, with the environment's variables.

    Args:
        args: Parsed arguments of `guard serve`.

    Raises:
        ConfigError: No backend is named, two ways of naming one are mixed, or something is wrong.
    """
    return loaded(args).config


def loaded(args: argparse.Namespace) -> Loaded:
    """As `configured`, with where each setting came from."""
    return load(*sources(args), own_upstream=args.backend == "embedded")


def sources(args: argparse.Namespace) -> tuple[Path | None, dict[str, str], list[Option]]:
    """
    What a configuration is put together from: the file if there is one, variables, options.

    Raises:
        ConfigError: Two ways of naming a backend are mixed.
    """
    embedded = args.backend == "embedded"
    if embedded and (args.upstream or args.config):
        raise ConfigError(
            "the embedded backend is its own upstream; leave --upstream and --config out", where="--backend"
        )
    path = args.config
    if path is None and not embedded and os.environ.get("GUARD_CONFIG"):
        path = Path(os.environ["GUARD_CONFIG"])
    environ = dict(os.environ)
    if args.upstream or embedded:
        environ = {name: text for name, text in environ.items() if not name.startswith("GUARD_UPSTREAMS")}
    return path, environ, list(_options(args))


def _options(args: argparse.Namespace) -> Iterator[Option]:
    if args.upstream:
        yield ["upstreams"], [{"url": url} for url in args.upstream], "--upstream"
    for option, steps in (
        ("policy", ["policy"]),
        ("host", ["listen", "host"]),
        ("port", ["listen", "port"]),
        ("admin_host", ["admin", "host"]),
        ("admin_port", ["admin", "port"]),
        ("log_level", ["log", "level"]),
    ):
        value = getattr(args, option)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is not None:
            yield steps, value, f"--{option.replace('_', '-')}"


def config_file(args: argparse.Namespace) -> ReadOnce:
    """The configuration's file, to be asked for before it is read."""
    return ReadOnce(sources(args)[0], "configuration")


def serving(args: argparse.Namespace) -> Coroutine[object, object, int]:
    """
    What serves as a command line asks: alone, as the supervisor of workers, or as one of them.

    Args:
        args: Parsed arguments of `guard serve`.

    Raises:
        GuardError: Something is wrong with them or what they name, or a worker was not started by a supervisor.
    """
    if args.worker is not None:
        return worker_command(handed_down(), args.worker, args.port)
    file, config = config_file(args), configured(args)
    embedded = args.backend == "embedded"
    if args.workers == 1:
        return serve_command(config, file, embedded=embedded)
    handed = Handed(config, baselines_of(config))
    return supervise_command(handed, args.argv, file, workers=args.workers, embedded=embedded)


async def serve_command(config: Config, file: ReadOnce, *, embedded: bool) -> int:
    """
    Serve until told to stop.

    Args:
        config: From `configured`.
        file: From `config_file`.
        embedded: Start the embedded backend and guard it.

    Returns:
        How many requests were cut at the end.

    Raises:
        GuardError: A file is wrong, a port is taken, or the embedded backend cannot be started.
    """
    policies = _prepared(config)
    if not embedded:
        return await serve(config, policies, baselines_of(config), _announce, asked=file.tell)
    async with embedded_upstream() as (upstream, baseline):
        config = msgspec.structs.replace(config, upstreams=[upstream])
        return await serve(config, policies, {upstream.url: baseline}, _announce)


async def worker_command(handed: Handed, worker: int, port: int) -> int:
    """
    Serve as one of the workers of a supervisor.

    Args:
        handed: From the supervisor. Policies are files that are read again, so each worker reads them itself.
        worker: Index of this process among them.
        port: The client port that they share.

    Returns:
        How many requests were cut at the end.

    Raises:
        GuardError: A file is wrong.
    """
    config = worker_config(handed.config, worker, port)
    policies = _prepared(config)
    stop_with_supervisor()
    return await serve(config, policies, handed.baselines, announce_to_supervisor, shared_port=True)


def _prepared(config: Config) -> PolicySet:
    """Log as configured, say what is doubtful, and read the policies."""
    configure(config.log.level, human=config.log.format == "human" or is_terminal())
    for sentence in strangers(Config, os.environ):
        _log.warning("variable", problem=sentence)
    for sentence in doubts(config):
        _log.warning("configuration", problem=sentence)
    if short := room_for(config.limits.max_in_flight):
        _log.warning("open files", problem=short)
    named = [config.policy] if isinstance(config.policy, str) else config.policy
    return PolicySet(named, config.shadow_policy)


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
    """
    Healthy acceptance of every upstream that names a profile, by its URL.

    Raises:
        ConfigError: There is no such profile, or it is wrong; the setting that names it is told.
    """
    found: dict[str, Baseline] = {}
    for index, upstream in enumerate(config.upstreams):
        if upstream.profile is None:
            continue
        try:
            found[upstream.url] = find_baseline(upstream.profile, upstream.num_speculative_tokens)
        except ConfigError as error:
            where = error.where or f"upstreams[{index}].profile"
            raise ConfigError(error.message, path=error.path, line=error.line, where=where) from error
    return found


def _announce(running: Running) -> None:
    say(f"guard: clients connect to {running.url}, operators to {running.admin_url}")
