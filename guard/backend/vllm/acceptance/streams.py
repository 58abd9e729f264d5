"""
Async iterators around vLLM's own: one reads steps on their way in, one writes them on their way out.

A route's generator takes an output, sends the chunks it makes of it, and takes the next. So the
steps of the outputs taken so far, less those already told, are those of the next chunk; where a
parser holds text back and no chunk is sent, they wait for the one after.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from guard.backend.vllm.acceptance.outputs import STEPS
from guard.backend.vllm.acceptance.steps import Pending


def collect(output: Any, pending: Pending, first_choice: int = 0) -> None:
    """
    Take the steps off an output.

    Args:
        output: vLLM's `RequestOutput`.
        pending: Where they wait.
        first_choice: Index of the first choice of this prompt: several prompts number theirs through.
    """
    for completion in output.outputs:
        steps = completion.__dict__.get(STEPS)
        if steps is not None:
            pending.add(first_choice + completion.index, steps)


async def tapped(results: Any, pending: Pending) -> AsyncIterator[Any]:
    """
    Yield what `results` yields, with its steps taken off first.

    The source is closed with this, which is how a route aborts the request when its client is gone.
    """
    try:
        async for output in results:
            collect(output, pending)
            yield output
    finally:
        await _close(results)


async def tapped_prompts(results: Any, pending: Pending, choices: int) -> AsyncIterator[Any]:
    """
    The same for results that come as (index of the prompt, output).

    Args:
        results: vLLM's generator.
        pending: Where the steps wait.
        choices: Choices of each prompt.
    """
    try:
        async for item in results:
            collect(item[1], pending, item[0] * choices)
            yield item
    finally:
        await _close(results)


async def rewritten(items: Any, pending: Pending, write: Callable[[Any, Pending], Any]) -> AsyncIterator[Any]:
    """Yield what `items` yields; while steps wait, `write` may put them in."""
    try:
        async for item in items:
            yield write(item, pending) if pending else item
    finally:
        await _close(items)


class Carrier:
    """
    A chat stream that another route turns into its own events: its chunks as they are, and the steps beside them.

    Args:
        items: vLLM's generator of chunks.
        pending: Filled while it is read.
    """

    def __init__(self, items: Any, pending: Pending) -> None:
        self._items = items
        self.pending = pending

    def __aiter__(self) -> Carrier:
        return self

    async def __anext__(self) -> Any:
        return await self._items.__anext__()

    async def aclose(self) -> None:
        """Close the generator."""
        await _close(self._items)


async def _close(items: Any) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
