"""
Order on a device: marks in the queue of compute work, and transfers that run beside it.

The schedule says what must wait for what; a timeline makes it so. On the CPU compute work is done when its call
returns and only transfers are in flight; on CUDA both are queued on streams and wait for each other's events. The
calling code is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch


class Mark(Protocol):
    """A point that work reaches."""

    def passed(self) -> bool:
        """Whether it is reached, as far as is known without waiting."""


class Timeline(Protocol):
    """Compute work of one device, and transfers beside it."""

    def mark(self) -> Mark:
        """The end of the compute work queued so far."""

    def wait(self, marks: Iterable[Mark]) -> None:
        """Compute work queued from now on starts after these marks."""

    def transfer(self, after: Iterable[Mark], start: Callable[[], Sequence[Any]]) -> Mark:
        """
        Start a transfer.

        Args:
            after: Marks it waits for.
            start: Queues its copies and collectives; returns the collectives' handles.

        Returns:
            Its end.
        """

    def close(self) -> None:
        """Return when all transfers are over; nothing is started any more."""


class _Reached:
    def passed(self) -> bool:
        return True


class _Works:
    """Collectives in flight on the host."""

    def __init__(self, works: Sequence[Any]) -> None:
        self._works = works

    def passed(self) -> bool:
        return all(work.is_completed() for work in self._works)

    def wait(self) -> None:
        for work in self._works:
            work.wait()
        self._works = ()


class HostTimeline:
    """The CPU: a call that returns has done its work; collectives run in threads of their own."""

    _reached = _Reached()

    def mark(self) -> Mark:
        """See Timeline."""
        return self._reached

    def wait(self, marks: Iterable[Mark]) -> None:
        """See Timeline."""
        for mark in marks:
            if isinstance(mark, _Works):
                mark.wait()

    def transfer(self, after: Iterable[Mark], start: Callable[[], Sequence[Any]]) -> Mark:
        """See Timeline."""
        self.wait(after)
        return _Works(start())

    def close(self) -> None:
        """See Timeline; whoever started collectives has waited for them."""


class _Job:
    def __init__(self, future: Future[None]) -> None:
        self.future = future

    def passed(self) -> bool:
        return self.future.done() and self.future.result() is None


class ThreadTimeline:
    """The CPU, with transfers that run in a thread of their own, one after the other, as on a stream."""

    _reached = _Reached()

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "guard-transfers")

    def mark(self) -> Mark:
        """See Timeline."""
        return self._reached

    def wait(self, marks: Iterable[Mark]) -> None:
        """See Timeline. An error of the transfer is raised here, and where `passed` is asked."""
        for mark in marks:
            if isinstance(mark, _Job):
                mark.future.result()

    def transfer(self, after: Iterable[Mark], start: Callable[[], Sequence[Any]]) -> Mark:
        """See Timeline."""
        return _Job(self._thread.submit(self._run, tuple(after), start))

    def close(self) -> None:
        """See Timeline."""
        self._thread.shutdown()

    def _run(self, after: Sequence[Mark], start: Callable[[], Sequence[Any]]) -> None:
        self.wait(after)
        for work in start():
            work.wait()


class _Event:
    def __init__(self, event: torch.cuda.Event) -> None:
        self.event = event

    def passed(self) -> bool:
        done: bool = self.event.query()
        return done


class CudaTimeline:
    """
    A CUDA device: compute on the current stream, transfers on one of their own.

    Args:
        device: Which.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def mark(self) -> Mark:
        """See Timeline."""
        return self._recorded(torch.cuda.current_stream())

    def wait(self, marks: Iterable[Mark]) -> None:
        """See Timeline."""
        self._queue(torch.cuda.current_stream(), marks)

    def transfer(self, after: Iterable[Mark], start: Callable[[], Sequence[Any]]) -> Mark:
        """See Timeline."""
        self._queue(self._stream, after)
        with torch.cuda.stream(self._stream):
            for work in start():
                # Makes the stream wait, not the host.
                work.wait()
        return self._recorded(self._stream)

    def close(self) -> None:
        """See Timeline."""
        self._stream.synchronize()

    def _recorded(self, stream: torch.cuda.Stream) -> Mark:
        event = torch.cuda.Event()
        event.record(stream)
        return _Event(event)

    def _queue(self, stream: torch.cuda.Stream, marks: Iterable[Mark]) -> None:
        for mark in marks:
            if isinstance(mark, _Event):
                stream.wait_event(mark.event)


def timeline_of(device: torch.device) -> Timeline:
    """
    The timeline of a device.

    Raises:
        ValueError: There is none for this kind of device.
    """
    if device.type == "cpu":
        return HostTimeline()
    if device.type == "cuda":
        return CudaTimeline(device)
    raise ValueError(f"LayerSplit has no timeline for {device.type} devices")


def side_of(device: torch.device) -> Timeline:
    """
    A timeline whose transfers run beside the compute work, and beside those of others.

    Raises:
        ValueError: There is none for this kind of device.
    """
    return ThreadTimeline() if device.type == "cpu" else timeline_of(device)
