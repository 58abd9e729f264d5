"""Every request shape, sent to a real backend and through the guard: the answers are the same, field by field."""

from __future__ import annotations

import aiohttp
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.policy.judge import Judge
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.bench.fuzz_shapes import fuzz
from tests.integration.conftest import LiveBackend
from tests.integration.differential import answer
from tests.integration.shapes import ENDS, Shape, shapes

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


async def test_some_seconds_of_random_shapes_show_no_difference(embedded: LiveBackend) -> None:
    report = await fuzz(embedded.url, "llama.cpp", seconds=12, seed=5, least=3)
    assert report["differ"] == 0, report
    assert sum(report["asked"].values()) >= 3


async def test_who_wants_no_chunk_to_wait_may_miss_the_times_of_one(embedded: LiveBackend) -> None:
    """A stop word inside a token: stock, the last text has timings. Nothing but them is missing then."""
    asked = {"model": "m", "temperature": 0, "max_tokens": 9, "prompt": "The colours are", "stream": True}
    shape: Shape = ("/v1/completions", {**asked, **ENDS, "stop": ["reen"]})
    upstream = UpstreamSettings(url=embedded.url, exact_stops=False)
    config = Config(upstreams=[upstream], listen=Listen(port=0), admin=Listen(port=0))
    async with running_guard(config, Judge(find_policy("observe"))) as running, aiohttp.ClientSession() as client:
        await answer(client, embedded.url, shape)
        direct, guarded = await answer(client, embedded.url, shape), await answer(client, running.url, shape)
    (place,) = [at for at, (one, other) in enumerate(zip(direct, guarded, strict=True)) if one != other]
    (_, stock), (_, ours) = direct[place], guarded[place]
    assert stock["choices"][0]["text"] == " g"
    assert ours == {name: value for name, value in stock.items() if name != "timings"}
