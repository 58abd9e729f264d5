"""Replicas that an operator takes out of service while the guard runs: a file names them."""

from __future__ import annotations

from pathlib import Path

import structlog

from guard.data import read_text
from guard.errors import ConfigError
from guard.server.upstream import UpstreamPool
from guard.server.watched import Watched

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Drained:
    """
    Keeps a pool to what the file says.

    Args:
        path: One replica a line, by its name or its URL; `#` begins a comment.
        pool: All replicas.

    Raises:
        ConfigError: The file cannot be read.
    """

    def __init__(self, path: str, pool: UpstreamPool) -> None:
        self._path = path
        self._pool = pool
        self.reload()

    def reload(self) -> None:
        """Read the file again. Raises ConfigError, and leaves all as it was, when that fails."""
        upstreams = self._pool.upstreams
        wanted = read_drained(Path(self._path))
        named = {upstream.name for upstream in upstreams if upstream.name in wanted or upstream.url in wanted}
        self._pool.fleet.drain(wanted | named)
        strange = wanted - {known for upstream in upstreams for known in (upstream.name, upstream.url)}
        if strange:
            _log.warning("no replica of that name to drain, as yet", names=sorted(strange), file=self._path)
        _log.info("drained", replicas=sorted(named))


def watch_drained(path: str | None, pool: UpstreamPool, watched: Watched) -> None:
    """Keep a pool to that file, if there is one, as it changes. Raises ConfigError when it cannot be read now."""
    if path is not None:
        watched.add([path], Drained(path, pool).reload, "pool.drained_file")


def read_drained(path: Path) -> set[str]:
    """
    The names in a file.

    Raises:
        ConfigError: It cannot be read, or a line has more than one word.
    """
    found: set[str] = set()
    for number, line in enumerate(read_text(path, "pool.drained_file").splitlines(), 1):
        words = line.partition("#")[0].split()
        if len(words) > 1:
            raise ConfigError("one replica a line, by its name or its URL", path=str(path), line=number)
        found.update(word.rstrip("/") for word in words)
    return found
