"""What the guard itself says."""

from __future__ import annotations

from guard.proto.reply import guard_comment
from guard.proto.sse import SseParser


def test_the_comment_stays_one_line_whatever_it_says() -> None:
    raw = guard_comment({"reason": "a\n\nb\r\n", "attempts": 2})
    (event,) = SseParser().feed(raw)
    assert event.raw == raw
    assert event.data is None
    assert raw.startswith(b": guard {")
