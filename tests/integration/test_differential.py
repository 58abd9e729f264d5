"""Every request shape, sent to a real backend and through the guard: the answers are the same, field by field."""

from __future__ import annotations

from typing import Any

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


def at_stop_word(shape: Shape) -> bool:
    """The one known difference: llama.cpp's timings in the chunk of text in which a stop word begins."""
    return shape[1].get("stop") in ([" just"], " Red")


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
            direct = await answer(client, embedded.url, shape)
            guarded = await answer(client, running.url, shape)
            if at_stop_word(shape):
                direct, guarded = _without_timings(direct), _without_timings(guarded)
            assert guarded == direct, shape


def _without_timings(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_timings(v) for k, v in value.items() if k != "timings"}
    return [_without_timings(part) for part in value] if isinstance(value, (list, tuple)) else value
