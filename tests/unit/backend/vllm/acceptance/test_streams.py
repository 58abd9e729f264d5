"""guard.backend.vllm.acceptance.streams: nothing is added or lost, and all is closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from guard.backend.vllm.acceptance.outputs import STEPS
from guard.backend.vllm.acceptance.steps import Pending, Steps
from guard.backend.vllm.acceptance.streams import Carrier, collect, rewritten, tapped, tapped_prompts


def output(**steps: tuple[int, int]) -> Any:
    """A result with one completion a choice (`c0=(accepted, drafted)`)."""
    completions = [
        SimpleNamespace(index=int(name[1:]), **{STEPS: Steps([kept], [tried])}) for name, (kept, tried) in steps.items()
    ]
    return SimpleNamespace(outputs=completions)


class Source:
    """Yields what it has and notes that it was closed."""

    def __init__(self, *items: Any) -> None:
        self.items = items
        self.closed = False

    async def run(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                yield item
        finally:
            self.closed = True


def test_steps_are_collected_by_choice_counted_through_all_prompts() -> None:
    pending = Pending()
    collect(output(c0=(1, 3), c1=(2, 3)), pending, first_choice=2)
    collect(SimpleNamespace(outputs=[SimpleNamespace(index=0)]), pending)
    assert [pending.take(index) is not None for index in range(4)] == [False, False, True, True]


async def test_a_tap_lets_everything_through_and_takes_the_steps_first() -> None:
    pending = Pending()
    outputs = [output(c0=(1, 3)), output(), output(c0=(2, 3), c1=(0, 0))]
    source = Source(*outputs)
    seen = [(item, len(pending.get(0, ()))) async for item in tapped(source.run(), pending)]
    assert seen == [(outputs[0], 1), (outputs[1], 1), (outputs[2], 2)]
    assert sorted(pending) == [0, 1]
    assert source.closed


async def test_several_prompts_are_told_apart() -> None:
    pending = Pending()
    items = [(0, output(c0=(1, 3))), (1, output(c0=(2, 3), c1=(0, 0)))]
    assert [item async for item in tapped_prompts(Source(*items).run(), pending, 2)] == items
    assert {index: steps.accepted for index, steps in pending.items()} == {0: [1], 2: [2], 3: [0]}


async def test_a_reader_that_goes_away_closes_the_source() -> None:
    for tap in (tapped, lambda results, pending: tapped_prompts(results, pending, 1)):
        source = Source((0, output()), (0, output())) if tap is not tapped else Source(output(), output())
        pending = Pending()
        inner = tap(source.run(), pending)
        async with aclosing(rewritten(inner, pending, lambda item, _: item)) as items:
            async for _ in items:
                break
        assert source.closed


async def test_a_failing_source_is_closed_and_its_error_passes() -> None:
    async def failing() -> AsyncIterator[Any]:
        yield output()
        raise ConnectionError("engine is gone")

    with pytest.raises(ConnectionError, match="engine is gone"):
        [item async for item in tapped(failing(), Pending())]


async def test_chunks_are_rewritten_only_while_steps_wait() -> None:
    pending = Pending()

    def write(item: str, waiting: Pending) -> str:
        return item if waiting.take(0) is None else item + "+"

    async def chunks() -> AsyncIterator[str]:
        yield "a"
        pending.add(0, Steps([1], [3]))
        yield "b"
        yield "c"

    assert [item async for item in rewritten(chunks(), pending, write)] == ["a", "b+", "c"]


async def test_a_carrier_is_its_stream_and_closes_it() -> None:
    source = Source("a", "b")
    carrier = Carrier(source.run(), Pending())
    assert await anext(carrier) == "a"
    await carrier.aclose()
    assert source.closed
    assert [item async for item in Carrier(Source("a", "b").run(), Pending())] == ["a", "b"]
