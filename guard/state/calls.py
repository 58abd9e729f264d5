"""Calls to a store that may be dead or slow: nobody waits longer than the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import structlog

from guard.clock import Clock
from guard.state.circuit import Circuit
from guard.state.store import StoreCounts

T = TypeVar("T")

#: Calls under way at most; more are not tried. Each has a connection of its own.
LIMIT = 20

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Calls:
    """
    Runs calls beside whoever waits for them.

    A call that is late goes on until the client's own limits end it: a cut-off call would cost its
    connection, and the next one would have to connect anew within the deadline.

    Args:
        deadline: Longest wait. Unit: seconds.
        failures: Failures in a row after which only probes are tried.
        counts: Where results are counted.
        clock: The guard's.
    """

    def __init__(self, deadline: float, failures: int, counts: StoreCounts, clock: Clock) -> None:
        self._deadline = deadline
        self._circuit = Circuit(failures)
        self._counts = counts
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()
        self._told = False

    @property
    def closed(self) -> bool:
        """Whether requests wait for the store at all."""
        return self._circuit.closed

    async def ask(
        self,
        operation: str,
        make: Callable[[], Awaitable[T]],
        *,
        proves: bool = True,
        since: Sequence[float] = (),
    ) -> T | None:
        """
        One call that a request waits for, or several requests.

        Args:
            operation: Its name in the metrics.
            make: Starts it.
            proves: That it succeeds shows that the store works; one that is full or read-only still answers reads.
            since: When the requests began to wait, if it is not one that does so now. Unit: seconds.

        Returns:
            Its result; None when it was not tried, failed or came too late.
        """
        if not self._circuit.closed or len(self._running) >= LIMIT:
            self._counts.calls[(operation, "skipped")] += 1
            return None
        now = self._clock.now()
        since = since or (now,)
        try:
            return await self._run(operation, make, max(self._deadline - (now - min(since)), 0.0), proves=proves)
        finally:
            now = self._clock.now()
            self._counts.waited += sum(now - began for began in since)

    async def probe(
        self, operation: str, make: Callable[[], Awaitable[T]], patience: float, *, proves: bool = False
    ) -> T | None:
        """
        One call of a background task, tried even while requests do not.

        Args:
            operation: Its name in the metrics.
            make: Starts it.
            patience: Longest wait. Unit: seconds. What comes after the deadline is used, but counts as late.
            proves: See `ask`.

        Returns:
            Its result, None when it failed.
        """
        if len(self._running) >= LIMIT:
            self._counts.calls[(operation, "skipped")] += 1
            return None
        return await self._run(operation, make, max(patience, self._deadline), proves=proves)

    def start(self, operation: str, make: Callable[[], Awaitable[object]]) -> None:
        """One call that nobody waits for; the caller sees to it that there is only one at a time."""
        self._start(operation, make)

    def _start(self, operation: str, make: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        async def called() -> T:
            return await make()

        task = asyncio.create_task(called(), name=f"store {operation}")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _run(self, operation: str, make: Callable[[], Awaitable[T]], wait: float, *, proves: bool) -> T | None:
        task = self._start(operation, make)
        began = self._clock.now()
        await asyncio.wait({task}, timeout=wait)
        if not task.done():
            self._failed(operation, "late", "no answer in time")
            return None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._failed(operation, "failed", f"{type(error).__name__}: {error}")
            return None
        if self._clock.now() - began > self._deadline:
            self._failed(operation, "late", "slower than the deadline")
        else:
            self._counts.calls[(operation, "ok")] += 1
            if proves:
                self._circuit.succeeded()
                self._tell()
        return task.result()

    def _failed(self, operation: str, result: str, why: str) -> None:
        self._counts.calls[(operation, result)] += 1
        self._circuit.failed()
        self._tell(why)

    def _tell(self, why: str = "") -> None:
        """Say once that the store is lost, and once that it is back."""
        if self._circuit.closed == (not self._told):
            return
        self._told = not self._circuit.closed
        if self._told:
            _log.warning("the shared store is not reached; this guard decides alone until it is back", reason=why)
        else:
            _log.info("the shared store is back")

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain of one that came late

    async def close(self) -> None:
        """Stop what is under way."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
