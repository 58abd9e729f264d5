"""API server: the Anthropic route, which vLLM builds on its chat route."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from guard.backend.vllm.acceptance.chunks import into_anthropic_event
from guard.backend.vllm.acceptance.streams import Carrier, rewritten


def message_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    """The chat stream's steps go into the events made from it."""

    @functools.wraps(original)
    def message_stream_converter(serving: Any, generator: Any) -> Any:
        events = original(serving, generator)
        if isinstance(generator, Carrier):
            return rewritten(events, generator.pending, into_anthropic_event)
        return events

    return message_stream_converter


@functools.cache
def _with_metrics(base: Any) -> Any:
    import pydantic  # noqa: PLC0415 - only in the vLLM environment

    return pydantic.create_model(base.__name__, __base__=base, metrics=(dict[str, Any] | None, None))


def messages_full(original: Callable[..., Any]) -> Callable[..., Any]:
    """The only choice's steps become a field of the message: vLLM's own class has no room for others."""

    @functools.wraps(original)
    def messages_full_converter(serving: Any, generator: Any) -> Any:
        message = original(serving, generator)
        metrics = getattr(generator.choices[0], "metrics", None)
        if metrics is None:
            return message
        kind: Any = type(message)
        return _with_metrics(kind).model_construct(**message.__dict__, metrics=metrics)

    return messages_full_converter
