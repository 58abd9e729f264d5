"""Puts a chunk's steps into its JSON: last in the chunk and flat, so that a proxy can cut them out of the bytes."""

from __future__ import annotations

import functools
import json
from typing import Any, Final, get_args

from guard.backend.vllm.acceptance.steps import Pending, Steps

# A quote inside a JSON string is escaped: these bytes can only be the key itself.
_CHOICE: Final = '"choices":[{"index":'
_ROLE: Final = '"delta":{"role":'
_METRICS: Final = ',"metrics":'
_END: Final = "}\n\n"
_TEXT_EVENT: Final = "event: content_block_delta\n"
_LAST_EVENT: Final = "event: message_delta\n"


def metrics_of(steps: Steps) -> dict[str, Any]:
    """The `metrics` object that carries the steps."""
    return {"speculative_decoding": steps.fields()}


def into_openai_chunk(event: str, pending: Pending) -> str:
    """
    Put the waiting steps into one event of the chat or completions route.

    Args:
        event: As vLLM made it: `data: {...}` and an empty line. Only a chunk with a choice takes
            steps, and not the one that merely opens the answer with its role.
        pending: Steps of all choices; those that go out are taken.

    Returns:
        The event; unchanged if it takes none.
    """
    found = event.find(_CHOICE)
    if found < 0:
        return event
    start = found + len(_CHOICE)
    end = event.index(",", start)
    if event.startswith(_ROLE, end + 1):
        return event
    steps = pending.pop(int(event[start:end]), None)
    return event if steps is None else _insert(event, steps)


def into_anthropic_event(event: str, pending: Pending) -> str:
    """
    Put the waiting steps into an event with text, or the last of them into the event with the stop reason.

    Args:
        event: As vLLM made it: `event: ...`, `data: {...}` and an empty line.
        pending: Steps of the one choice; those that go out are taken.

    Returns:
        The event; unchanged if it takes none.
    """
    if not event.startswith((_TEXT_EVENT, _LAST_EVENT)):
        return event
    steps = pending.take(0)
    return event if steps is None else _insert(event, steps)


def set_metrics(model: Any, steps: Steps) -> None:
    """
    Set `metrics` of a model that is not serialised yet.

    Args:
        model: One of vLLM's. Where it declares the field, its type asks for totals that there are
            not: objects of that type are made without them. Elsewhere it is an extra field.
        steps: The steps.
    """
    kind: Any = type(model)
    outer = _declared(kind, "metrics")
    if outer is None:
        model.metrics = metrics_of(steps)
        return
    inner: Any = _declared(outer, "speculative_decoding")
    said = inner.model_construct(**steps.fields())
    if model.metrics is None:
        model.metrics = outer.model_construct(speculative_decoding=said)
    else:
        model.metrics.speculative_decoding = said


@functools.cache
def _declared(model: Any, name: str) -> Any:
    """The type of an optional field; None if the model does not declare it."""
    field = model.model_fields.get(name)
    if field is None:
        return None
    return next(each for each in get_args(field.annotation) if each is not type(None))


def _insert(event: str, steps: Steps) -> str:
    if _METRICS not in event and event.endswith(_END):
        return f'{event[: -len(_END)]}{_METRICS}{{"speculative_decoding":{steps.json()}}}{_END}'
    head, data = event.split("data: ", 1)
    fields = json.loads(data)
    metrics = fields.pop("metrics", None) or {}
    fields["metrics"] = {**metrics, **metrics_of(steps)}
    return f"{head}data: {json.dumps(fields, separators=(',', ':'), ensure_ascii=False)}\n\n"
