"""
Full garbage collections at quiet moments.

What an exchange leaves behind is freed when it ends, by counts of references alone: nothing holds itself
(tests/integration/server/test_collector.py). Only exceptions and libraries leave cycles. Yet Python looks through
everything there is whenever a quarter more has come to stay, detectors of open streams above all, and holds up all
streams meanwhile: with 5,000 of them for half a second and more. So that is left to moments without a stream, where
little is there to look through; a guard that never has one makes one after a while, or when its memory has grown.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from guard.clock import Clock

#: Between two full collections where no request is open. Unit: seconds.
QUIET: Final = 30.0
#: After so long one is made even so: what leaves cycles must not fill the memory. Unit: seconds.
LONGEST: Final = 900.0
#: Growth of the memory since the last one at which one is made even so. Unit: bytes.
GROWN: Final = 256 * 1024 * 1024
#: Between two looks whether one is due. Unit: seconds.
TICK: Final = 5.0
#: Collections of the middle generation before Python itself makes a full one: as good as never.
_NEVER: Final = 1_000_000_000


def resident() -> int:
    """Memory of this process that is in use; 0 where the system does not tell. Unit: bytes."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Collector:
    """
    See the module. One for the process.

    Args:
        busy: Requests open now.
        clock: For the times.
        memory: Memory in use. Unit: bytes.
    """

    def __init__(self, busy: Callable[[], int], clock: Clock, memory: Callable[[], int] = resident) -> None:
        self._busy = busy
        self._clock = clock
        self._memory = memory
        self._last, self._size = clock.now(), memory()

    def due(self, now: float) -> bool:
        """Whether a full collection is. Unit: seconds of the clock."""
        if not self._busy():
            return now - self._last >= QUIET
        return now - self._last >= LONGEST or self._memory() - self._size >= GROWN

    def look(self) -> bool:
        """Make one if it is due; whether it was."""
        if not self.due(self._clock.now()):
            return False
        gc.collect()
        self._last, self._size = self._clock.now(), self._memory()
        return True

    async def run(self) -> None:
        """Make them until cancelled, in place of Python's own."""
        # What a process begins with stays: no collection need look through it.
        gc.freeze()
        young, middle, old = gc.get_threshold()
        gc.set_threshold(young, middle, _NEVER)
        try:
            while True:
                await asyncio.sleep(TICK)
                self.look()
        finally:
            gc.set_threshold(young, middle, old)
