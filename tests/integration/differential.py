"""Compares a backend's own answers with those through the guard, field by field."""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp

from guard.proto.sse import SseParser
from tests.integration.shapes import Shape

#: Ids and times.
VOLATILE = re.compile(r"^(id|created|created_at|completed_at|item_id|call_id|id_slot|encrypted_content|time_ms)$")


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: lasting(v) for k, v in value.items()}
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
