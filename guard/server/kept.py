"""Background tasks that outlive their own defects: a watchdog that died of one would let every stream hang after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

#: Between a failure and the next start. Unit: seconds.
AGAIN = 1.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


async def kept(name: str, run: Callable[[], Awaitable[object]], again: float = AGAIN) -> None:
    """
    Run something that goes on until it is cancelled, and start it anew when it fails.

    Args:
        name: For the log.
        run: Starts it; once it returns, it is over.
        again: Between a failure and the next start. Unit: seconds.
    """
    while True:
        try:
            await run()
        except Exception:  # a defect, whatever it is
            _log.error("a background task failed and is started anew", task=name, exc_info=True)
            await asyncio.sleep(again)
        else:
            return
