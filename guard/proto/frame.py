"""New data in an event's own frame: its name, id, comments and line ends stay."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from guard.proto.sse import SseEvent

_LINES = re.compile(rb"(\r\n|\n|\r)")
_encode = msgspec.json.Encoder().encode


def one_line(event: SseEvent) -> bool:
    """Whether the event is one JSON object on one data line, which ends it; a name may stand before."""
    data, raw = event.data, event.raw
    if data is None:
        return False
    if raw.startswith(b"data: {"):
        # One data line and nothing else has just these eight bytes more than its data.
        return len(raw) == len(data) + 8
    return raw.startswith(b"event: ") and raw.endswith(b"\ndata: " + data + b"\n\n") and data.startswith(b"{")


def reframe(event: SseEvent, body: bytes) -> bytes:
    """Put a new body into the event."""
    data = body.replace(b"\n", b"\ndata: ") if b"\n" in body else body
    if event.data is not None and event.raw == b"data: " + event.data + b"\n\n":
        return b"data: " + data + b"\n\n"
    out: list[bytes] = []
    done = False
    pieces = _LINES.split(event.raw)
    for line, end in zip(pieces[::2], [*pieces[1::2], b""], strict=True):
        field = line.removeprefix(b"\xef\xbb\xbf").partition(b":")[0]
        if field != b"data":
            out.append(line + end)
        elif not done:
            out.append(b"data: " + data + end)
            done = True
    return b"".join(out)


def event_of(fields: dict[str, Any], name: str = "") -> bytes:
    """A new event: its name, if any, and one data line."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + _encode(fields) + b"\n\n"
