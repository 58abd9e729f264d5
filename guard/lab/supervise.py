"""`guard serve --workers N`: the supervisor's process, and what a worker does for it."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import struct
import sys
from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec
import structlog
from aiohttp import web

from guard.clock import MonotonicClock
from guard.config import AdminListen, Config
from guard.detect.baseline import Baseline
from guard.errors import ConfigError, SetupError
from guard.observe.log import configure, is_terminal, say
from guard.server.admin_access import AdminAccess
from guard.server.hung_workers import end_hung_workers
from guard.server.kept import kept
from guard.server.ports import listen_on
from guard.server.run import Running
from guard.server.tls import load_pair, server_context
from guard.server.watched import ReadOnce, Watched
from guard.server.workers import Announcement, Supervisor
from guard.server.workers_admin import ANSWER, WorkersAdmin

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

#: More processes than this on one machine are a slip of the finger.
MOST_WORKERS = 256
_LENGTH: Final = struct.Struct(">I")


class Handed(msgspec.Struct, frozen=True):
    """
    What every worker is given as the supervisor read it, whenever it starts: files may have changed since.

    Args:
        config: The configuration.
        baselines: Healthy acceptance by upstream URL.
    """

    config: Config
    baselines: dict[str, Baseline]

    def packed(self) -> bytes:
        """As it goes down a worker's standard input."""
        data = msgspec.msgpack.encode(self)
        return _LENGTH.pack(len(data)) + data


def handed_down() -> Handed:
    """
    Read it there, and not a byte more.

    Raises:
        SetupError: It did not come whole, so that there is no supervisor any more, or is of another version.
    """
    (length,) = _LENGTH.unpack(_exactly(_LENGTH.size))
    try:
        return msgspec.msgpack.decode(_exactly(length), type=Handed)
    except msgspec.DecodeError as error:
        raise SetupError(f"the supervisor is of another version, restart it: {error}") from error


def _exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(sys.stdin.fileno(), count - len(data))
        if not piece:
            raise SetupError("a worker is started by its supervisor, which gives it its configuration")
        data += piece
    return data


async def supervise_command(
    handed: Handed, argv: Sequence[str], file: ReadOnce, *, workers: int, embedded: bool
) -> int:
    """
    Run workers until told to stop.

    Args:
        handed: What all workers have alike, this process too.
        argv: Arguments of this process after the program's name, for the workers.
        file: The configuration's.
        workers: How many.
        embedded: Whether the embedded backend was asked for.

    Returns:
        How many workers had to cut streams.

    Raises:
        GuardError: The number of workers is none, a port is taken, or a worker cannot be started.
    """
    config = handed.config
    if not 1 <= workers <= MOST_WORKERS:
        raise ConfigError(f"{workers} workers; give a number from 1 to {MOST_WORKERS}", where="--workers")
    if embedded:
        raise ConfigError("the embedded backend is for trying out, with one process", where="--workers")
    configure(config.log.level, human=config.log.format == "human" or is_terminal())
    command = [sys.executable, "-m", "guard", *argv]
    supervisor = Supervisor(
        command,
        workers,
        config.listen,
        config.timeouts.drain,
        MonotonicClock(),
        shared=config.store is not None,
        handed=handed.packed(),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)

    def reload() -> None:
        supervisor.reload()
        loop.run_in_executor(None, file.tell)

    loop.add_signal_handler(signal.SIGHUP, reload)
    access, watched = AdminAccess(config.access), Watched()
    watched.add([config.access.admin_token_file], access.reload, "access.admin_token_file")
    context = _context(config, watched)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER)) as session:
        app = WorkersAdmin(supervisor, session, access).application()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        hung = kept("hung workers", lambda: end_hung_workers(supervisor, session, MonotonicClock()))
        watching = asyncio.gather(watched.run(), hung)
        try:
            await listen_on(runner, config.admin, "admin", context)
            host, port = runner.addresses[0][:2]
            admin = f"{'http' if context is None else 'https'}://{f'[{host}]' if ':' in host else host}:{port}"
            secure = config.listen.tls is not None
            cut = await supervisor.run(lambda url: _announce(url, admin, workers), secure=secure)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await runner.cleanup()
    _log.info("stopped")
    return cut


def _context(config: Config, watched: Watched) -> ssl.SSLContext | None:
    settings = config.admin.tls
    if settings is None:
        return None
    context = server_context(settings, "admin")

    def reload() -> None:
        load_pair(context, settings.cert, settings.key, "admin.tls")

    watched.add([settings.cert, settings.key], reload, "admin.tls")
    return context


def _announce(url: str, admin_url: str, workers: int) -> None:
    say(f"guard: clients connect to {url}, operators to {admin_url}, {workers} workers")


def worker_config(config: Config, worker: int, port: int) -> Config:
    """
    What differs between a worker and a guard that is alone: its admin port is the supervisor's, and it
    records into files of its own.

    Args:
        config: The supervisor's.
        worker: Its index.
        port: The client port, which the supervisor may have been given by the system.
    """
    recording = config.recording
    if recording is not None:
        recording = msgspec.structs.replace(recording, name=f"{recording.name}-worker{worker}")
    listen = msgspec.structs.replace(config.listen, port=port)
    admin = AdminListen(host="127.0.0.1", port=0)
    return msgspec.structs.replace(config, listen=listen, admin=admin, recording=recording)


def announce_to_supervisor(running: Running) -> None:
    """Tell where this worker is: one line on standard output."""
    line = msgspec.json.encode(Announcement(running.url, running.admin_url))
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def stop_with_supervisor() -> None:
    """Drain and stop when standard input ends: then the supervisor is gone. Call from the running loop."""
    loop = asyncio.get_running_loop()

    def gone() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sys.stdin.fileno(), gone)
