"""Every request shape of vLLM, sent to it and through the guard: the answers are the same, field by field."""

from __future__ import annotations

import aiohttp
import pytest

from guard.backend.testbed.server import VllmServer
from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.policy.judge import Judge
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.integration.differential import answer
from tests.vllm.server.shapes import shapes

PARTS = 6
#: A stream is compared again when it differs, with all that came before it: vLLM puts two steps into one chunk when
#: its reader was late.
TRIES = 8
SHAPES = shapes("tiny", tokens=8)


@pytest.mark.parametrize("part", range(PARTS))
async def test_the_guard_cannot_be_told_from_vllm(tiny_draft_server: VllmServer, part: int) -> None:
    assert len(SHAPES) >= 200
    config = Config(
        upstreams=[UpstreamSettings(url=tiny_draft_server.url, engine="vllm")],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=0.5),
    )
    async with running_guard(config, Judge(find_policy("observe"))) as running, aiohttp.ClientSession() as client:
        for shape in SHAPES[part::PARTS]:
            # What is computed again differs in its last bits from what comes out of the prefix cache.
            await answer(client, tiny_draft_server.url, shape)
            direct, guarded = [], []
            for _ in range(TRIES):
                direct.append(await answer(client, tiny_draft_server.url, shape))
                guarded.append(await answer(client, running.url, shape))
                if guarded[-1] in direct or direct[-1] in guarded:
                    break
            else:
                assert guarded[-1] == direct[-1], shape
