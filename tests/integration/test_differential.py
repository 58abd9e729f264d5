"""Every request shape, sent to a real backend and through the guard: the answers are the same, field by field."""

from __future__ import annotations

import aiohttp
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.policy.judge import Judge
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.integration.conftest import LiveBackend
from tests.integration.differential import answer
from tests.integration.shapes import Shape, shapes

pytestmark = pytest.mark.embedded

SHAPES = shapes(tokens=4)
PARTS = 12


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
async def test_the_guard_cannot_be_told_from_the_backend(embedded: LiveBackend, part: int) -> None:
    assert len(SHAPES) >= 200
    config = Config(
        upstreams=[UpstreamSettings(url=embedded.url)],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=0.5),
    )
    async with running_guard(config, Judge(find_policy("observe"))) as running, aiohttp.ClientSession() as client:
        for shape in SHAPES[part::PARTS]:
            # Asked three times, so that both find the same in the backend's prompt cache.
            await answer(client, embedded.url, shape)
            direct = await answer(client, embedded.url, shape)
            assert await answer(client, running.url, shape) == direct, shape


@pytest.mark.parametrize("stream", [True, False])
async def test_the_one_difference_that_stays(embedded: LiveBackend, stream: bool) -> None:
    """A stop word that begins inside a token: a stream's last text lacks the timings that it has stock, no more."""
    config = Config(upstreams=[UpstreamSettings(url=embedded.url)], listen=Listen(port=0), admin=Listen(port=0))
    asked = {"model": "m", "temperature": 0, "max_tokens": 8, "prompt": "The colours are", "stream": stream}
    async with running_guard(config, Judge(find_policy("observe"))) as running, aiohttp.ClientSession() as client:
        plain = await answer(client, embedded.url, ("/v1/completions", {**asked, "stream": False}))
        # All but the first letter of a word: no token ends there.
        word = plain[2]["choices"][0]["text"].split()[1][1:]
        shape: Shape = ("/v1/completions", {**asked, "stop": [word]})
        await answer(client, embedded.url, shape)
        direct, guarded = await answer(client, embedded.url, shape), await answer(client, running.url, shape)
    differing = [at for at, (one, other) in enumerate(zip(direct, guarded, strict=True)) if one != other]
    if not stream:
        assert not differing
        return
    (place,) = differing
    (_, stock), (_, ours) = direct[place], guarded[place]
    assert stock["choices"][0]["text"]
    assert direct[place + 1][1]["choices"][0]["finish_reason"] == "stop"
    assert ours == {name: value for name, value in stock.items() if name != "timings"}
