"""Server-sent events: what ends an event, what stands in it, and what is refused."""

from __future__ import annotations

import time

import pytest

from guard.errors import EventTooLarge, ProtocolError
from guard.proto.sse import SseEvent, SseParser


def events(*pieces: bytes) -> list[SseEvent]:
    parser = SseParser()
    out = [event for piece in pieces for event in parser.feed(piece)]
    out += parser.finish()
    assert b"".join(event.raw for event in out) + parser.pending == b"".join(pieces)
    return out


def test_one_plain_event() -> None:
    assert events(b'data: {"a":1}\n\n') == [SseEvent(b'data: {"a":1}\n\n', b'{"a":1}')]


def test_several_events_in_one_read() -> None:
    assert [event.data for event in events(b"data: 1\n\ndata: 2\n\ndata: 3\n\n")] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_line_end(end: bytes) -> None:
    stream = end.join([b"event: delta", b"id: 7", b"data: a", b"data: b", b"", b"data: c", b"", b""])
    first, second = events(stream)
    assert (first.event, first.id, first.data) == ("delta", "7", b"a\nb")
    assert (second.event, second.id, second.data) == ("", None, b"c")


def test_mixed_line_ends() -> None:
    assert [event.data for event in events(b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\n")] == [b"1", b"2", b"3"]


def test_crlf_cut_between_its_two_bytes_is_one_line_end() -> None:
    assert [event.raw for event in events(b"data: 1\r\n\r", b"\ndata: 2\r", b"\n\r\n")] == [
        b"data: 1\r\n\r\n",
        b"data: 2\r\n\r\n",
    ]


def test_an_event_that_ends_in_cr_waits_for_the_next_byte_or_for_the_end() -> None:
    parser = SseParser()
    assert parser.feed(b"data: 1\r\r") == []
    assert [event.data for event in parser.feed(b"data: 2\r\r")] == [b"1"]
    assert [event.data for event in parser.finish()] == [b"2"]
    assert parser.pending == b""
    assert parser.finish() == []


def test_a_byte_order_mark_is_skipped_at_the_start_only() -> None:
    first, second = events(b"\xef\xbb\xbfdata: 1\n\n", b"\xef\xbb\xbfdata: 2\n\n")
    assert first.data == b"1"
    assert second.data is None


def test_comments_have_no_data_and_keep_their_bytes() -> None:
    (event,) = events(b": ping\n\n")
    assert event == SseEvent(b": ping\n\n", None)


def test_a_comment_inside_an_event_leaves_its_data_alone() -> None:
    (event,) = events(b": ping\ndata: 1\n\n")
    assert event.data == b"1"


def test_only_one_space_after_the_colon_is_dropped() -> None:
    assert [event.data for event in events(b"data:  1\n\ndata:2\n\n")] == [b" 1", b"2"]


def test_a_field_without_a_colon_has_an_empty_value() -> None:
    (event,) = events(b"data\n\n")
    assert event.data == b""


def test_stray_blank_lines_are_kept_and_say_nothing() -> None:
    out = events(b"\n\n\ndata: 1\n\n")
    assert [event.data for event in out] == [None, b"1"]


def test_an_id_with_a_null_is_ignored_and_a_name_need_not_be_utf8() -> None:
    (event,) = events(b"id: a\0b\nevent: \xff\ndata: 1\n\n")
    assert event.id is None
    assert event.event == "�"


def test_an_event_that_has_not_ended_is_pending() -> None:
    parser = SseParser()
    parser.feed(b"data: 1\n\ndata: 2")
    parser.feed(b"3\n")
    assert parser.pending == b"data: 23\n"
    assert parser.finish() == []
    assert parser.pending == b"data: 23\n"


def test_nothing_fed_is_nothing() -> None:
    assert events(b"") == []


def test_the_cap_is_noticed_before_the_event_ends_and_names_where_it_began() -> None:
    parser = SseParser(max_event_bytes=16)
    parser.feed(b"data: 1\n\n")
    parser.feed(b"data: 234567")
    with pytest.raises(EventTooLarge, match=r"byte 9: an event is larger than 16 bytes") as caught:
        parser.feed(b"89abcdef")
    assert isinstance(caught.value, ProtocolError)
    with pytest.raises(EventTooLarge):
        parser.feed(b"\n\n")
    with pytest.raises(EventTooLarge):
        parser.finish()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_the_cap_counts_an_event_that_came_whole(end: bytes) -> None:
    size = len(b"data: 123" + end)
    assert SseParser(max_event_bytes=size).feed(b"data: 123" + end)
    with pytest.raises(EventTooLarge):
        SseParser(max_event_bytes=size - 1).feed(b"data: 123" + end)


def test_events_before_a_too_large_one_are_still_given() -> None:
    parser = SseParser(max_event_bytes=12)
    assert [event.data for event in parser.feed(b"data: 1\n\ndata: 23456789\n\ndata: 3\n\n")] == [b"1"]
    with pytest.raises(EventTooLarge, match="byte 9"):
        parser.feed(b"data: 4\n\n")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_one_huge_event_in_small_pieces_costs_linear_time(end: bytes) -> None:
    piece, count = b"x" * 65536, 1600  # 100 MiB
    parser = SseParser(max_event_bytes=200 << 20)
    start = time.perf_counter()
    parser.feed(b"data: ")
    for _ in range(count):
        assert parser.feed(piece) == []
    (event,) = parser.feed(end)
    took = time.perf_counter() - start
    assert event.data is not None
    assert len(event.data) == len(piece) * count
    # A rescan of what is pending at each piece would read 80 GiB.
    assert took < 10
