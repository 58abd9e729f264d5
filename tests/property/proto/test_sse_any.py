"""Server-sent events, whatever the bytes and however they are cut."""

from __future__ import annotations

import itertools
import re

from hypothesis import example, given
from hypothesis import strategies as st

from guard.errors import EventTooLarge, ProtocolError
from guard.proto.sse import SseEvent, SseParser

LINES = st.sampled_from(
    [
        b"",
        b"",
        b"data: {}",
        b"data: a",
        b"data:b",
        b"data",
        b"event: x",
        b"id: 1",
        b": c",
        b"\xef\xbb\xbf",
        b"\xff",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS), max_size=20).map(lambda parts: b"".join(a + b for a, b in parts))
CUTS = st.lists(st.integers(0, 200), max_size=12)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def parsed(pieces: list[bytes]) -> tuple[list[SseEvent], bytes]:
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    events += parser.finish()
    return events, parser.pending


@given(STREAMS | st.binary(max_size=60), CUTS)
@example(b"data: 1\r\n\r\n\r\ndata: 2\r\r\n\n", [8, 9, 10, 11, 12])
def test_how_the_bytes_are_cut_changes_nothing(data: bytes, places: list[int]) -> None:
    whole = parsed([data])
    assert parsed(cut(data, places)) == whole
    assert parsed([data[at : at + 1] for at in range(len(data))]) == whole


@given(STREAMS | st.binary(max_size=60), CUTS)
def test_no_byte_is_lost(data: bytes, places: list[int]) -> None:
    events, pending = parsed(cut(data, places))
    assert b"".join(event.raw for event in events) + pending == data


@given(STREAMS)
def test_the_events_are_those_of_the_standard(data: bytes) -> None:
    """Against the standard's own line-by-line reading."""
    lines = re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf"))[:-1]
    expected: list[bytes] = []
    buffer: list[bytes] = []
    for line in lines:
        if line == b"":
            if buffer:
                expected.append(b"\n".join(buffer))
            buffer = []
        elif line.partition(b":")[0] == b"data":
            buffer.append(line.partition(b":")[2].removeprefix(b" "))
    events, _ = parsed([data])
    assert [event.data for event in events if event.data is not None] == expected


@given(STREAMS | st.binary(max_size=60), CUTS, st.integers(1, 30))
def test_under_a_cap_the_same_events_come_and_then_the_same_error(data: bytes, places: list[int], cap: int) -> None:
    def outcome(pieces: list[bytes]) -> tuple[list[SseEvent], str]:
        parser = SseParser(max_event_bytes=cap)
        events: list[SseEvent] = []
        try:
            for piece in pieces:
                events += parser.feed(piece)
            events += parser.finish()
        except EventTooLarge as error:
            return events, error.where
        return events, ""

    events, where = outcome(cut(data, places))
    assert (events, where) == outcome([data])
    assert all(len(event.raw) <= cap for event in events)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_give_events_or_a_protocol_error(data: bytes, cap: int) -> None:
    parser = SseParser(max_event_bytes=cap)
    try:
        parser.feed(data)
        parser.finish()
    except ProtocolError:
        pass
