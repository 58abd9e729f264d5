"""What exchanges leave behind needs no collector of garbage."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import aiohttp
import pytest
import uvloop

from guard.shipped import find_policy
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, Script, backend
from tests.unit.core.transcript import DONE, chunk

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PROSE = (
    "Lighthouses warn ships of rocks and shoals. Early ones burned wood on open hearths, which keepers fed all night; "
    "later came whale oil, then gas lamps behind lenses cut from many prisms. A clock turned the lens, so that sailors "
    "could tell each tower by the rhythm of its flash."
)
TEXT = [chunk(PROSE[at : at + 24]) for at in range(0, len(PROSE), 24)]
END = [chunk("", finish="stop"), DONE]
SCRIPTS: dict[str, Script] = {
    "healthy": [OK_SSE, *TEXT, 0.002, *END],
    "a loop, retried": [OK_SSE, *[chunk("Fine words are said here. ")] * 16, 0.002, *END],
    "no answer": [],
    "broken off": [OK_SSE, *TEXT[:5]],
    "not JSON": [OK_SSE, *TEXT, b"data: {nonsense\n\n"],
    "an error": [b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"],
    "the client leaves": [OK_SSE, *TEXT, None],
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_exchanges_leave_no_cycles(kind: str, stream: bool) -> None:
    """On the loop that `guard serve` has."""

    async def run() -> int:
        policy = find_policy("default")
        async with (
            backend(lambda _: SCRIPTS[kind]) as upstream,
            guarded(upstream.url, policy=policy) as (running, client),
        ):

            async def ask() -> None:
                body = {**CHAT, "stream": stream or kind == "the client leaves"}
                with contextlib.suppress(aiohttp.ClientError):
                    async with client.post(running.url + "/v1/chat/completions", json=body) as response:
                        if kind == "the client leaves":
                            await response.content.readany()
                            response.close()
                        else:
                            await response.read()

            for _ in range(4):
                await ask()
            await asyncio.sleep(0.1)
            gc.collect()
            gc.disable()
            try:
                for _ in range(8):
                    await ask()
                await asyncio.sleep(0.1)
                return gc.collect()
            finally:
                gc.enable()

    assert uvloop.run(run()) == 0
