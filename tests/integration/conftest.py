"""The embedded backend, started once for all integration tests that want a real engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from guard.lab.faulty import FaultyReplica
from guard.lab.progress import best_progress


@dataclass(frozen=True)
class LiveBackend:
    """
    A running llama.cpp server, usable from any event loop.

    Args:
        url: Its address.
        slots_folder: Where it saves slots.
        num_speculative_tokens: Draft depth. Unit: tokens.
    """

    url: str
    slots_folder: Path
    num_speculative_tokens: int
    _backend: EmbeddedBackend
    _loop: asyncio.AbstractEventLoop

    async def order(self, order: dict[str, Any]) -> dict[str, Any]:
        """EmbeddedBackend.order, carried to the loop on which the backend was started."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._backend.order(order), self._loop))


@pytest.fixture(scope="session")
def embedded() -> Iterator[LiveBackend]:
    """
    One backend for the session, with faults allowed.

    It lives on a loop of its own, so that tests may each have theirs.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="embedded backend", daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    backend = EmbeddedBackend(EmbeddedOptions(allow_faults=True), best_progress())
    run(backend.__aenter__())
    try:
        yield LiveBackend(backend.url, backend.slots_folder, backend.num_speculative_tokens, backend, loop)
    finally:
        run(backend.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
async def faulty(embedded: LiveBackend) -> AsyncIterator[FaultyReplica]:
    """A faulty replica before the embedded backend; its slot is clean before and after."""
    async with FaultyReplica(embedded.url, embedded.slots_folder, order=embedded.order) as replica:
        await replica.heal()
        yield replica
        replica.disarm()
        await replica.heal()
