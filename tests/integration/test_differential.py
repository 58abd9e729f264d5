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


#: A stop word that begins inside a token: stock, the last text has timings. An answer that the engine ends itself
#: while stop words were asked for: stock, the textless chunk before the last has none.
UNSEEN = {
    "a stop word inside a token": ({"stop": ["reen"]}, " g", "direct"),
    "an end without a stop word": ({"stop": ["zzz"]}, "", "guarded"),
}


def unseen(stop: dict[str, object], *, stream: bool) -> Shape:
    asked = {"model": "m", "temperature": 0, "max_tokens": 9, "prompt": "The colours are", "stream": stream}
    return "/v1/completions", {**asked, **ENDS, **stop}


@pytest.mark.parametrize("case", UNSEEN)
async def test_nothing_differs_there_where_no_acceptance_is_asked(embedded: LiveBackend, case: str) -> None:
    shape = unseen(UNSEEN[case][0], stream=True)
    upstream = UpstreamSettings(url=embedded.url, exact_stops=True)
    config = Config(upstreams=[upstream], listen=Listen(port=0), admin=Listen(port=0))
    async with running_guard(config, Judge(find_policy("observe"))) as running, aiohttp.ClientSession() as client:
        await answer(client, embedded.url, shape)
        assert await answer(client, running.url, shape) == await answer(client, embedded.url, shape)


async def test_random_shapes_do_not_even_differ_by_times_where_that_is_asked(embedded: LiveBackend) -> None:
    report = await fuzz(embedded.url, "llama.cpp", seconds=8, seed=22, exact_stops=True, least=3)
    assert (report["differ"], report["only_times"]) == (0, 0), report


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("case", UNSEEN)
async def test_only_times_differ_where_the_stop_is_not_told(embedded: LiveBackend, stream: bool, case: str) -> None:
    """Nothing but llama.cpp's object of times, in one chunk; the last chunk has it either way."""
    stop, text, timed = UNSEEN[case]
    shape = unseen(stop, stream=stream)
    config = Config(upstreams=[UpstreamSettings(url=embedded.url)], listen=Listen(port=0), admin=Listen(port=0))
    async with running_guard(config, Judge(find_policy("observe"))) as running, aiohttp.ClientSession() as client:
        await answer(client, embedded.url, shape)
        direct, guarded = await answer(client, embedded.url, shape), await answer(client, running.url, shape)
    differing = [at for at, (one, other) in enumerate(zip(direct, guarded, strict=True)) if one != other]
    if not stream:
        assert not differing
        return
    (place,) = differing
    (_, stock), (_, ours) = direct[place], guarded[place]
    with_times, without = (stock, ours) if timed == "direct" else (ours, stock)
    assert with_times["choices"][0]["text"] == text
    assert without == {name: value for name, value in with_times.items() if name != "timings"}
    last = direct[place + 1][1]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["timings"] == with_times["timings"]
