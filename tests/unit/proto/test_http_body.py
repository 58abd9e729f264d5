"""Bodies as backends send them; every cut is in tests/property."""

from __future__ import annotations

import pytest

from guard.proto.http_body import MAX_LINE, MAX_TRAILERS, ChunkedBody, SizedBody


def test_one_read_with_one_chunk_is_its_data() -> None:
    body = ChunkedBody()
    assert body.feed(b"5\r\nhello\r\n") == b"hello"
    assert body.feed(b"1\r\n!\r\n0\r\n\r\n") == b"!"
    assert body.over


def test_a_chunk_may_come_in_many_reads_and_many_in_one() -> None:
    body = ChunkedBody()
    reads = [b"a", b"\r", b"\n01234", b"56789\r", b"\n1\r\nx\r\n2\r\nyz\r\n", b"0\r\n", b"\r\nHTTP"]
    assert [body.feed(data) for data in reads] == [b"", b"", b"01234", b"56789", b"xyz", b"", b""]
    assert (body.over, body.rest) == (True, b"HTTP")


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (b"5\r\nhelloXX5\r\n", b"hello"),
        (b"5\r\nhelloX", b"hello"),
        (b"fffffffffffffffff\r\n", b""),
        (b"5" + b" " * MAX_LINE, b""),
        (b"0\r\n" + b"a" * (MAX_LINE + 1), b""),
        (b"0\r\n" + (b"a: " + b"b" * 1000 + b"\r\n") * (MAX_TRAILERS // 1000 + 1), b""),
    ],
)
def test_a_broken_encoding_is_a_failure_after_what_was_good(wire: bytes, said: bytes) -> None:
    body = ChunkedBody()
    assert body.feed(wire) == said
    assert body.failure is not None
    assert "chunked encoding" in str(body.failure)


def test_an_empty_body_is_over_before_it_began() -> None:
    assert SizedBody(0).over
