"""What the guard itself says."""

from __future__ import annotations

import json

from guard.proto.reply import error_body, error_event, guard_comment
from guard.proto.sse import SseParser


def test_an_error_has_all_four_fields_of_openais_form() -> None:
    assert json.loads(error_body("it broke", code="cut")) == {
        "error": {"message": "it broke", "type": "guard_error", "param": None, "code": "cut"}
    }


def test_an_error_event_is_the_same_body_as_one_event() -> None:
    (event,) = SseParser().feed(error_event("it\nbroke", code="cut", kind="server_error", param="n"))
    assert event.data == error_body("it\nbroke", code="cut", kind="server_error", param="n")


def test_the_comment_stays_one_line_whatever_it_says() -> None:
    raw = guard_comment({"reason": "a\n\nb\r\n", "attempts": 2})
    (event,) = SseParser().feed(raw)
    assert event.raw == raw
    assert event.data is None
    assert raw.startswith(b": guard {")
