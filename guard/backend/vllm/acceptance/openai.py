"""API server: the chat and the completions route of vLLM."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from guard.backend.vllm.acceptance.chunks import into_openai_chunk, set_metrics
from guard.backend.vllm.acceptance.outputs import steps_of
from guard.backend.vllm.acceptance.steps import Pending
from guard.backend.vllm.acceptance.streams import Carrier, rewritten, tapped, tapped_prompts
from guard.backend.vllm.acceptance.switch import Switch

_RESULTS = "result_generator"


class OpenAIHooks:
    """
    Replacements for the methods that answer requests; each hands on to vLLM's own.

    Args:
        switch: Which requests get their steps.
    """

    def __init__(self, switch: Switch) -> None:
        self._wanted = switch.wanted

    def chat_stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """For the generator of chunks, which vLLM 0.32 also uses where another route makes its own events of them."""
        signature = inspect.signature(original)

        @functools.wraps(original)
        def chat_stream(serving: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._wanted(request.vllm_xargs) or not _knows_steps(serving):
                return original(serving, request, *args, **kwargs)
            pending = Pending()
            call = signature.bind(serving, request, *args, **kwargs)
            call.arguments[_RESULTS] = tapped(call.arguments[_RESULTS], pending)
            items = original(*call.args, **call.kwargs)
            return Carrier(items, pending) if _converts(serving) else rewritten(items, pending, into_openai_chunk)

        return chat_stream

    def chat_stream_raw(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """For the generator of chunk objects that vLLM 0.33 has for such routes; its own stream uses it as well."""
        carried = self.chat_stream(original)

        @functools.wraps(original)
        def chat_stream_raw(serving: Any, *args: Any, **kwargs: Any) -> Any:
            return (carried if _converts(serving) else original)(serving, *args, **kwargs)

        return chat_stream_raw

    def chat_full(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """For an answer in one body: each choice has the steps of its whole sequence."""
        signature = inspect.signature(original)

        async def answer(call: inspect.BoundArguments) -> Any:
            pending = Pending()
            call.arguments[_RESULTS] = tapped(call.arguments[_RESULTS], pending)
            response = await original(*call.args, **call.kwargs)
            for choice in getattr(response, "choices", ()):
                steps = pending.take(choice.index)
                if steps is not None:
                    set_metrics(choice, steps)
            return response

        @functools.wraps(original)
        def chat_full(serving: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._wanted(request.vllm_xargs):
                return original(serving, request, *args, **kwargs)
            return answer(signature.bind(serving, request, *args, **kwargs))

        return chat_full

    def completion_stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """For a generator of serialised chunks."""
        signature = inspect.signature(original)

        @functools.wraps(original)
        def completion_stream(serving: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._wanted(request.vllm_xargs):
                return original(serving, request, *args, **kwargs)
            pending = Pending()
            call = signature.bind(serving, request, *args, **kwargs)
            call.arguments[_RESULTS] = tapped_prompts(call.arguments[_RESULTS], pending, request.n or 1)
            return rewritten(original(*call.args, **call.kwargs), pending, into_openai_chunk)

        return completion_stream

    def completion_full(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """For an answer in one body; the choices of all prompts stand one after another."""

        @functools.wraps(original)
        def completion_full(serving: Any, final_res_batch: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
            response = original(serving, final_res_batch, request, *args, **kwargs)
            if self._wanted(request.vllm_xargs):
                completions = (each for result in final_res_batch for each in result.outputs)
                for choice, completion in zip(response.choices, completions, strict=False):
                    steps = steps_of(completion)
                    if steps is not None:
                        set_metrics(choice, steps)
            return response

        return completion_full


def _converts(serving: Any) -> bool:
    """Whether a route reads the chat chunks to make its own events of them."""
    return hasattr(serving, "message_stream_converter")


def _knows_steps(serving: Any) -> bool:
    """The routes this plugin knows; others built on chat may not bear an unknown field in its chunks."""
    return _converts(serving) or type(serving).__name__ == "OpenAIServingChat"
