"""Every request shape, sent to a real backend and through the guard: the answers are the same, field by field."""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.policy.judge import Judge
from guard.proto.sse import SseParser
from guard.server.run import running_guard
from guard.shipped import find_policy
from tests.integration.conftest import LiveBackend
from tests.integration.shapes import Shape, shapes

pytestmark = pytest.mark.embedded

SHAPES = shapes(tokens=4)
PARTS = 12
#: Ids, times, and what depends on which of a prompt was still in the backend's cache.
VOLATILE = re.compile(r"^(id|created|created_at|completed_at|item_id|call_id|id_slot|encrypted_content)$")
CACHE = {"prompt_tokens_details", "input_tokens_details", "cache_read_input_tokens", "tokens_cached", "prompt_progress"}


def lasting(value: Any) -> Any:
    if isinstance(value, str):
        # Where the token limit cuts a character, llama.cpp's whole answers show its half, its streams do not.
        return value.rstrip("\ufffd")
    if isinstance(value, dict):
        claude = "output_tokens" in value and "total_tokens" not in value
        kept = {k: lasting(v) for k, v in value.items() if k not in CACHE and not (claude and k == "input_tokens")}
        return {k: "any" if VOLATILE.match(k) else sorted(v) if k == "timings" else v for k, v in kept.items()}
    return [lasting(part) for part in value] if isinstance(value, list) else value


async def answer(client: aiohttp.ClientSession, url: str, shape: Shape) -> list[Any]:
    """Status, then the body or the stream's events with their names, by choice where there are several."""
    path, body = shape
    async with client.post(url + path, json=body, headers={"Connection": "close"}) as reply:
        data = await reply.read()
        if reply.content_type != "text/event-stream":
            return [reply.status, reply.content_type, lasting(json.loads(data))]
    said = [(e.event, e.data) for e in SseParser().feed(data) if e.data is not None]
    events = [(name, data if data == b"[DONE]" else lasting(json.loads(data))) for name, data in said]
    # Choices come in whatever order their slots are computed.
    return [reply.status, *sorted(events, key=lambda event: _choice(event[1]))]


def _choice(event: Any) -> int:
    if not isinstance(event, dict):
        return 99
    choices = event.get("choices")
    index = choices[0].get("index", 0) if choices else event.get("index", 0)
    return index if isinstance(index, int) and "type" not in event else 0


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
