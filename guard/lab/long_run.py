"""A run over many cases: how far it is, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

T = TypeVar("T")

#: Nothing is told of a run that is over by then, and nothing again before so long. Unit: seconds.
FIRST, AGAIN = 2.0, 0.5


def counted(results: Iterable[T], total: int, out: TextIO | None = None) -> Iterator[T]:
    """
    Results as they come, with their number on a terminal while a run takes long; the line goes away at its end.

    Args:
        results: What is waited for.
        total: How many there will be.
        out: Where it is told; standard error if None. Nothing is, where that is no terminal.
    """
    out = out or sys.stderr
    due = time.monotonic() + FIRST if out.isatty() else float("inf")
    told = ""
    for number, result in enumerate(results, 1):
        if time.monotonic() >= due:
            told = f"{number} of {total} cases"
            print(f"\r{told}", end="", file=out, flush=True)
            due = time.monotonic() + AGAIN
        yield result
    if told:
        print(f"\r{' ' * len(told)}\r", end="", file=out, flush=True)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Have the processes that are started meanwhile leave Ctrl-C to this one: each would tell of it by a traceback."""
    if threading.current_thread() is not threading.main_thread():  # only that one may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
