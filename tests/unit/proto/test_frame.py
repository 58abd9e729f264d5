"""New data in an event's own frame."""

from __future__ import annotations

import json

import pytest

from guard.proto.frame import event_of, one_line, reframe
from guard.proto.sse import SseParser


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        (b'data: {"a":1}\n\n', True),
        (b'event: x\ndata: {"a":1}\n\n', True),
        (b'data:{"a":1}\n\n', False),
        (b'data: {"a":1}\r\n\r\n', False),
        (b'data: {"a":1}\nid: 3\n\n', False),
        (b'data: {"a":\ndata: 1}\n\n', False),
        (b"data: [1]\n\n", False),
        (b": x\n\n", False),
    ],
)
def test_one_plain_line_is_told_from_all_else(raw: bytes, plain: bool) -> None:
    (event,) = SseParser().feed(raw)
    assert one_line(event) is plain


def test_the_frame_stays() -> None:
    (event,) = SseParser().feed(b'\xef\xbb\xbf: hi\r\nid: 3\r\nevent: e\r\ndata: {"a":\r\ndata: 1}\r\n\r\n')
    assert reframe(event, b"{}") == b"\xef\xbb\xbf: hi\r\nid: 3\r\nevent: e\r\ndata: {}\r\n\r\n"


def test_a_new_event_reads_as_what_it_says() -> None:
    (event,) = SseParser().feed(event_of({"text": "a\n\nb"}, "done"))
    assert event.event == "done"
    assert json.loads(event.data or b"") == {"text": "a\n\nb"}
