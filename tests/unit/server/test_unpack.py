"""Compressed request bodies: unfolded up to the limit, refused in the declared way otherwise."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import RequestError
from guard.server.unpack import coding_of, unpacked

LIMIT = 100_000


def raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return engine.compress(data) + engine.flush()


PACKERS = {
    "gzip": ("gzip", gzip.compress),
    "several members": (
        "gzip",
        lambda data: gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :]),
    ),
    "zlib": ("deflate", zlib.compress),
    "raw": ("deflate", raw_deflate),
}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("GZip", "gzip"),
        (" x-gzip ", "gzip"),
        ("deflate", "deflate"),
        ("identity, gzip", "gzip"),
    ],
)
def test_codings_are_known_by_their_names(header: str, coding: str) -> None:
    assert coding_of(header) == coding


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, gzip", "gzip, br", "x"])
def test_another_coding_is_415_and_the_error_names_those_accepted(header: str) -> None:
    with pytest.raises(RequestError, match="gzip, deflate") as caught:
        coding_of(header)
    assert caught.value.status == 415


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(max_size=400) | st.binary(max_size=9).map(lambda part: part * 9000))
def test_a_packed_body_comes_out_as_it_was(name: str, data: bytes) -> None:
    coding, pack = PACKERS[name]
    assert unpacked(pack(data), coding, LIMIT) == data


@pytest.mark.parametrize("name", PACKERS)
def test_the_limit_holds_to_the_byte(name: str) -> None:
    coding, pack = PACKERS[name]
    packed = pack(b"a" * LIMIT)
    assert len(unpacked(packed, coding, LIMIT)) == LIMIT
    with pytest.raises(RequestError, match="max_request_bytes") as caught:
        unpacked(packed, coding, LIMIT - 1)
    assert caught.value.status == 413


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 20_000_000, compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="max_request_bytes"):
            unpacked(bomb, "gzip", LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 10 * LIMIT
    finally:
        tracemalloc.stop()


def test_members_without_end_are_refused() -> None:
    with pytest.raises(RequestError, match="something follows"):
        unpacked(gzip.compress(b"") * 2000, "gzip", LIMIT)


@pytest.mark.parametrize("name", PACKERS)
def test_a_body_cut_short_or_with_something_after_it_is_400(name: str) -> None:
    coding, pack = PACKERS[name]
    packed = pack(b"some text " * 9)
    for wrong in (b"", packed[:-1], packed[:9], packed + b"x"):
        with pytest.raises(RequestError) as caught:
            unpacked(wrong, coding, LIMIT)
        assert caught.value.status == 400


@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_unfolded_or_refused(body: bytes, coding: str) -> None:
    with contextlib.suppress(RequestError):
        assert len(unpacked(body, coding, LIMIT)) <= LIMIT
