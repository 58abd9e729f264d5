"""
A process that has vLLM imported, and that servers are forked from: the second one starts without any imports.

`Home.start` is for a process that starts many servers, such as a session of tests. A server from it is the leader of a
session of its own like any other, and ends when the process that asked for it has.
"""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from guard.backend.testbed import launch, warm
from guard.backend.testbed.engine import changed_environment


class HomeChild:
    """
    A server from a home.

    Args:
        process: Its handle.
    """

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid: int = process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    async def wait(self) -> int:
        """Return when it has ended."""
        loop = asyncio.get_running_loop()
        # Its own descriptor: several may wait, each on a loop of its own.
        sentinel = os.dup(self._process.sentinel)
        ended = asyncio.Event()
        loop.add_reader(sentinel, ended.set)
        try:
            while (code := self.returncode) is None:
                await ended.wait()
        finally:
            loop.remove_reader(sentinel)
            os.close(sentinel)
        return code

    def send_signal(self, signal: int, /) -> None:
        """Send it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, signal)


class Home:
    """
    Where servers come from; begun with the first one. A process has one, whichever of these objects is asked first.

    Args:
        environ: Variables with which vLLM is imported.
        modules: What is imported.
    """

    def __init__(self, environ: Mapping[str, str], modules: Sequence[str] = warm.MODULES) -> None:
        self._environ = dict(environ)
        self._modules = list(modules)

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], log: Path) -> HomeChild:
        """
        Start a server.

        Args:
            arguments: Of `vllm serve`.
            environ: All of its environment.
            log: File for its output.
        """
        context = multiprocessing.get_context("forkserver")
        with changed_environment(self._environ):
            context.set_forkserver_preload(self._modules)
            forkserver.ensure_running()
        # The name is that of a process that nobody forked: vLLM logs it.
        process = context.Process(target=_serve, args=(list(arguments), dict(environ), str(log)), name="MainProcess")
        process.start()
        return HomeChild(process)


def _serve(arguments: list[str], environ: dict[str, str], log: str) -> None:
    """In the child: become what a server started with a command line is."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(descriptor, number)
    os.close(out)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(environ)
    # The home ends with the process that it belongs to, not with its last server, and then this one is told.
    os.close(vars(forkserver)["_forkserver"]._forkserver_alive_fd)
    # Shared memory is given back when the server ends, and any word on that goes to its log.
    tracker = vars(resource_tracker)["_resource_tracker"]
    os.close(tracker._fd)
    tracker._fd = tracker._pid = None
    try:
        launch.serve(arguments)
    finally:
        # A forked process has no end of its own that would call them.
        atexit._run_exitfuncs()
