"""Servers that many tests share: started when first wanted, the longest unused ended when memory gets short."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from guard.backend.testbed.home import Home
from guard.backend.testbed.server import ENVIRONMENT, ServerOptions, VllmServer

T = TypeVar("T")

#: Memory that must be available before one more server starts, twice what SmolLM2 with a draft takes. Unit: bytes.
ROOM_BYTES = 5 << 30


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that could be had without swapping. Unit: bytes."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise ValueError(f"{meminfo} does not tell MemAvailable")


class ServerPool:
    """
    Servers by their options. They live on a loop of the pool's own, so that any test's loop may use them.

    Args:
        logs: Folder in which each server's output is kept.
        max_servers: Most servers at a time.
        room_bytes: Memory that must be available before one more starts.
    """

    def __init__(self, logs: Path, max_servers: int = 3, room_bytes: int = ROOM_BYTES) -> None:
        self.start_seconds: list[tuple[str, float]] = []
        self.home = Home(ENVIRONMENT)
        self._logs = logs
        self._max = max_servers
        self._room = room_bytes
        self._servers: dict[bytes, VllmServer] = {}
        self._count = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vLLM servers", daemon=True)
        self._thread.start()

    @property
    def servers(self) -> list[VllmServer]:
        """Those alive, the longest unused first."""
        return list(self._servers.values())

    def get(self, options: ServerOptions) -> VllmServer:
        """
        The server with these options; started when there is none, or when it has died.

        Raises:
            SetupError: It cannot be started; with the end of its log.
        """
        key = options.key()
        server = self._servers.pop(key, None)
        if server is not None and not server.alive:
            self.run(server.__aexit__(None, None, None))
            server = None
        if server is None:
            while self._servers and (len(self._servers) >= self._max or available_bytes() < self._room):
                self._end(next(iter(self._servers)))
            self._count += 1
            log = self._logs / f"{self._count:02d}-{options.model.name}.log"
            server = VllmServer(options, log, self.home)
            self.run(server.__aenter__())
            self.start_seconds.append((server.log_path.name, server.started_in_seconds))
        self._servers[key] = server
        return server

    def end(self, options: ServerOptions) -> None:
        """End a server, if it runs: the next `get` starts it afresh."""
        if options.key() in self._servers:
            self._end(options.key())

    def close(self) -> None:
        """End all servers, and the loop."""
        for key in list(self._servers):
            self._end(key)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _end(self, key: bytes) -> None:
        self.run(self._servers.pop(key).__aexit__(None, None, None))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something on the servers' own loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
