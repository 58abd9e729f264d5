"""What exchanges leave behind needs no collector of garbage."""

from __future__ import annotations

import asyncio
import gc

import uvloop

from guard.shipped import find_policy
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_finished_exchanges_leave_no_cycles() -> None:
    """Good ones and retried ones, on the loop that `guard serve` has."""

    def script(n: int) -> list[bytes | float | None]:
        said = "Fine words are said here. " if n % 2 else f"The river {n} runs, past towns and mills, to the sea. "
        return [OK_SSE, *[chunk(said) for _ in range(16)], 0.002, chunk("", finish="stop"), DONE]

    async def run() -> int:
        policy = find_policy("default")
        async with backend(script) as upstream, guarded(upstream.url, policy=policy) as (running, client):

            async def ask() -> None:
                async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                    await response.read()

            for _ in range(4):
                await ask()
            await asyncio.sleep(0.2)
            gc.collect()
            gc.disable()
            try:
                for _ in range(12):
                    await ask()
                await asyncio.sleep(0.2)
                return gc.collect()
            finally:
                gc.enable()

    assert uvloop.run(run()) == 0
