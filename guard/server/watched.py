"""Files that are read again when they change (keys, tokens, certificates), and those that would have to be."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from guard.data import check_regular
from guard.errors import ConfigError

#: Between two looks. Unit: seconds.
INTERVAL = 1.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class _Entry(NamedTuple):
    paths: tuple[str, ...]
    read: Callable[[], None]
    what: str


class Watched:
    """All watched files of a process. `run` is its task."""

    def __init__(self) -> None:
        self._seen: dict[_Entry, tuple[object, ...]] = {}
        self.reloads_failed = 0

    def add(self, paths: Sequence[str | None], read: Callable[[], None], what: str) -> None:
        """
        Watch files that were read already.

        Args:
            paths: Files; None stands for one that is not configured.
            read: Reads them again; raises ConfigError when they are wrong, and then keeps what there was.
            what: For the log.
        """
        given = tuple(path for path in paths if path is not None)
        if given:
            entry = _Entry(given, read, what)
            self._seen[entry] = _stamps(given)

    def look(self) -> None:
        """Look at every file once."""
        self._read_again(self._changed())

    def _changed(self) -> list[tuple[_Entry, tuple[object, ...]]]:
        now = [(entry, _stamps(entry.paths)) for entry in self._seen]
        return [(entry, stamps) for entry, stamps in now if stamps != self._seen[entry]]

    def _read_again(self, changed: Sequence[tuple[_Entry, tuple[object, ...]]]) -> None:
        for entry, stamps in changed:
            self._seen[entry] = stamps
            try:
                for path in entry.paths:
                    check_regular(Path(path))  # who opens a pipe waits for its other end
                entry.read()
            except ConfigError as error:
                # Also when one file of two was renewed: the other one follows and is seen then.
                self.reloads_failed += 1
                _log.error("not reloaded", what=entry.what, error=str(error))
            else:
                _log.info("reloaded", what=entry.what)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            # A file system that hangs must not hold up the loop.
            self._read_again(await asyncio.to_thread(self._changed))


class ReadOnce:
    """
    A file that is read at the start alone.

    Args:
        path: The file, before it is read; None where there is none.
        what: For the log.
    """

    def __init__(self, path: Path | None, what: str) -> None:
        self._path = path
        self._what = what
        self._stamp = _stamp(str(path)) if path is not None else None

    def tell(self) -> None:
        """Say in the log that it is not what it was at the start, if that is so."""
        if self._path is not None and _stamp(str(self._path)) != self._stamp:
            problem = "changed since the start, and read again only by a restart"
            _log.warning("restart needed", what=self._what, file=str(self._path), problem=problem)


def _stamps(paths: Sequence[str]) -> tuple[object, ...]:
    return tuple(_stamp(path) for path in paths)


def _stamp(path: str) -> object:
    """Changes when the file does, or the link to it, as Kubernetes replaces mounted secrets."""
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ino, status.st_size
