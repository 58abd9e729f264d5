"""API server: the Responses route, streamed, in one body, and in the background."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from guard.backend.vllm.acceptance.chunks import set_metrics
from guard.backend.vllm.acceptance.steps import Pending
from guard.backend.vllm.acceptance.streams import collect, rewritten
from guard.backend.vllm.acceptance.switch import Switch

_PENDING: Final = "_guard_pending"
_LAST: Final = ("response.completed", "response.incomplete", "response.failed")


class ResponsesHooks:
    """
    Replacements for two methods of vLLM's `OpenAIServingResponses`.

    vLLM gives these a conversation, not outputs: the steps are read where an output is appended to
    it, which is the same for all its kinds and for each turn with a tool of the server's own.

    Args:
        switch: Which requests get their steps.
    """

    def __init__(self, switch: Switch) -> None:
        self._wanted = switch.wanted

    def stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The steps go into the events that add text; what is left into the one that ends the answer."""
        signature = inspect.signature(original)

        @functools.wraps(original)
        def responses_stream(serving: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._wanted(request.vllm_xargs):
                return original(serving, request, *args, **kwargs)
            call = signature.bind(serving, request, *args, **kwargs)
            pending = _listen(call.arguments["context"])
            return rewritten(original(*call.args, **call.kwargs), pending, _into_event)

        return responses_stream

    def full(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The answer's `metrics` has all steps. vLLM also ends a stream with this; its steps are told by then."""
        signature = inspect.signature(original)

        async def answer(call: inspect.BoundArguments) -> Any:
            pending = _listen(call.arguments["context"])
            response = await original(*call.args, **call.kwargs)
            steps = pending.take(0)
            if steps is not None and hasattr(response, "output"):
                set_metrics(response, steps)
            return response

        @functools.wraps(original)
        def responses_full(serving: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            call = signature.bind(serving, request, *args, **kwargs)
            if not self._wanted(request.vllm_xargs) or _PENDING in call.arguments["context"].__dict__:
                return original(*call.args, **call.kwargs)
            return answer(call)

        return responses_full


def _listen(context: Any) -> Pending:
    """Read the steps of each output appended to this conversation."""
    pending = Pending()
    append = context.append_output

    @functools.wraps(append)
    def append_output(output: Any) -> None:
        collect(output, pending)
        append(output)

    context.__dict__[_PENDING] = pending
    context.append_output = append_output
    return pending


def _into_event(event: Any, pending: Pending) -> Any:
    kind = getattr(event, "type", "")
    if kind.endswith(".delta") or kind in _LAST:
        steps = pending.take(0)
        if steps is not None:
            set_metrics(event, steps)
    return event
