"""What every family reads alike in a request."""

from __future__ import annotations

import pytest

from guard.errors import RequestError
from guard.proto.client import decode_object, is_int, text_or_empty, wants_stream


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "JSON object"),
        (b"null", "JSON object"),
        (b'{"a":"\xff"}', r"not UTF-8 \(byte 6\)"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        decode_object(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


@pytest.mark.parametrize("stream", [1, "true", []])
def test_stream_must_be_a_boolean(stream: object) -> None:
    with pytest.raises(RequestError) as caught:
        wants_stream({"stream": stream})
    assert caught.value.param == "stream"


def test_a_null_stream_is_no_stream() -> None:
    assert wants_stream({"stream": None}) is False


def test_small_readers() -> None:
    assert [is_int(value) for value in (1, True, 1.0, "1")] == [True, False, False, False]
    assert [text_or_empty(value) for value in ("a", None, 1)] == ["a", "", ""]
