"""A body is the same however the connection cuts it, and a broken one never looks whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guard.proto.http_body import Body, ChunkedBody, OpenBody, SizedBody

PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
CUTS = st.lists(st.integers(1, 30), max_size=40)
ENDS = st.sampled_from([b"\r\n", b"\n"])
EXTRAS = st.sampled_from([b"", b" ", b";a=b", b' ;q="0;1"'])


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """By these sizes, then byte by byte."""
    out, at = [], 0
    for size in sizes:
        out.append(data[at : at + size])
        at += size
    return [piece for piece in out if piece] + [data[i : i + 1] for i in range(at, len(data))]


def read(body: Body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """The body, and what followed it."""
    said, rest = b"", b""
    for piece in pieces:
        if body.over:
            rest += piece
        else:
            said += body.feed(piece)
            rest += body.rest
    return said, rest


def chunked(pieces: list[bytes], end: bytes, extra: bytes, trailers: bytes) -> bytes:
    return b"".join(b"%X%b%b%b%b" % (len(p), extra, end, p, end) for p in pieces) + b"0" + end + trailers + end


@given(PIECES, CUTS, ENDS, EXTRAS, st.sampled_from([b"", b"a: b\r\n", b"a: b\nc: d\n"]), st.binary(max_size=5))
def test_chunks_come_out_joined_whatever_the_cuts(
    pieces: list[bytes], cuts: list[int], end: bytes, extra: bytes, trailers: bytes, after: bytes
) -> None:
    body = ChunkedBody()
    wire = chunked(pieces, end, extra, trailers)
    assert read(body, cut(wire + after, cuts)) == (b"".join(pieces), after)
    assert (body.over, body.failure, body.closed()) == (True, None, True)


@given(PIECES, CUTS, st.data())
def test_a_body_in_chunks_that_ends_early_is_not_whole(
    pieces: list[bytes], cuts: list[int], data: st.DataObject
) -> None:
    wire = chunked(pieces, b"\r\n", b"", b"")
    body = ChunkedBody()
    short = wire[: data.draw(st.integers(0, len(wire) - 1))]
    said, _ = read(body, cut(short, cuts))
    assert b"".join(pieces).startswith(said)
    assert not body.over
    assert not body.closed()


BROKEN = [b"zz\r\n", b"-1\r\n", b"+5\r\n", b"0x5\r\n", b" 5\r\n", b"\r\n", b"5 5\r\n", b"g"]


@given(PIECES, CUTS, st.sampled_from(BROKEN))
def test_what_comes_before_a_fault_comes_out_and_the_fault_is_told_at_once(
    pieces: list[bytes], cuts: list[int], fault: bytes
) -> None:
    body = ChunkedBody()
    good = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces)
    said, _ = read(body, cut(good + fault, cuts))
    assert said == b"".join(pieces)
    assert body.failure is not None
    assert body.over
    assert not body.closed()


@given(st.binary(max_size=200), CUTS, st.integers(0, 220))
def test_a_body_of_a_known_length_takes_no_more(data: bytes, cuts: list[int], size: int) -> None:
    body = SizedBody(size)
    said, rest = read(body, cut(data, cuts))
    assert (said, rest) == (data[:size], data[size:])
    assert body.over == body.closed() == (len(data) >= size)


@given(st.binary(max_size=200), CUTS)
def test_an_open_body_ends_with_its_connection(data: bytes, cuts: list[int]) -> None:
    body = OpenBody()
    assert read(body, cut(data, cuts)) == (data, b"")
    assert not body.over
    assert body.closed()
