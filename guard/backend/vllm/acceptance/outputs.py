"""
API server: from the engine's output to the `RequestOutput` a route reads.

Steps wait in the request's state until an output is made for the route (with `stream_interval` or
without streaming that is not every time) and then belong to that output. Outputs that are merged
because the route is slow add up their steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from guard.backend.vllm.acceptance.steps import Steps, unpack

#: Attribute of a `CompletionOutput`: the steps since the output before it. Absent when there are none.
STEPS: Final = "guard_steps"
_WAITING: Final = "_guard_waiting"
_OWN: Final = "_guard_own_metrics"


def steps_of(completion: Any) -> Steps | None:
    """
    The steps of one output.

    Args:
        completion: vLLM's `CompletionOutput`.

    Returns:
        The steps since the output before it, or None.
    """
    steps: Steps | None = completion.__dict__.get(STEPS)
    return steps


def metrics_property() -> property:
    """
    Stands in for `RequestState.spec_decode_metrics`, which the output processor sets from each output.

    What the plugin's other half marked is kept for the next output; anything else is vLLM's own.
    """

    def get(state: Any) -> Any:
        return state.__dict__.get(_OWN)

    def put(state: Any, metrics: Any) -> None:
        if metrics is None:
            return
        fields = state.__dict__
        unpacked = unpack(metrics)
        if unpacked is None:
            fields[_OWN] = metrics
            return
        steps, own = unpacked
        if own is not None:
            fields[_OWN] = own
        waiting = fields.get(_WAITING)
        if waiting is None:
            fields[_WAITING] = steps
        else:
            waiting.extend(steps)

    return property(get, put)


def new_completion_output(original: Callable[..., Any]) -> Callable[..., Any]:
    """Hands the waiting steps to the output that is made."""

    @functools.wraps(original)
    def _new_completion_output(state: Any, *args: Any, **kwargs: Any) -> Any:
        completion = original(state, *args, **kwargs)
        if _WAITING in state.__dict__:
            completion.__dict__[STEPS] = state.__dict__.pop(_WAITING)
        return completion

    return _new_completion_output


def add(original: Callable[..., None]) -> Callable[..., None]:
    """Keeps the steps of both outputs when `RequestOutput.add` merges or replaces them."""

    @functools.wraps(original)
    def add(earlier: Any, next_output: Any, aggregate: bool) -> None:
        before = {each.index: each for each in earlier.outputs}
        original(earlier, next_output, aggregate)
        for later in next_output.outputs:
            first = before.get(later.index)
            if first is None or first is later:
                continue
            steps, more = steps_of(first), steps_of(later)
            if steps is None and more is None:
                continue
            both = Steps([], [])
            for part in (steps, more):
                if part is not None:
                    both.extend(part)
            kept = next(each for each in earlier.outputs if each.index == later.index)
            kept.__dict__[STEPS] = both

    return add
