"""The answer to an attempt, over a connection that is played: whole, cut anywhere, broken, paused, let go of."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest

from guard.errors import UpstreamError
from guard.server.reply import MAX_HEAD, MAX_UNREAD, Disconnected, Reply

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Transport:
    """Remembers what is done to it."""

    def __init__(self) -> None:
        self.closed = False
        self.reads = True
        self.unsent = 0
        self.protocol: asyncio.BaseProtocol = asyncio.Protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def is_reading(self) -> bool:
        return self.reads

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class Sink:
    """Takes a body; pauses after each piece if it is told to."""

    def __init__(self, reply: Reply, *, pauses: bool = False) -> None:
        self.said: list[bytes] = []
        self.ends = 0
        self.from_lane: list[str] = []
        self._reply = reply
        self._pauses = pauses

    def take(self, data: bytes) -> None:
        assert not self.ends
        self.said.append(data)
        if self._pauses:
            self._reply.pause()

    def passed(self) -> None:
        self.from_lane.append("passed")

    def broken(self, error: Exception) -> None:
        self.from_lane.append("broken")

    def over(self) -> None:
        self.ends += 1


class Played:
    """A reply, its connection, and who reads it."""

    def __init__(self) -> None:
        self.given_back: list[object] = []
        self.reply = Reply(asyncio.get_running_loop(), self.given_back.append)
        self.transport = Transport()
        self.reply.connection_made(cast("asyncio.Transport", self.transport))
        self.sink = Sink(self.reply)


@pytest.fixture
async def played() -> Played:
    return Played()


async def test_a_whole_answer_gives_its_connection_back(played: Played) -> None:
    reply, sink = played.reply, played.sink
    reply.data_received(HEAD + framed(b"one"))
    await reply.begun()
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    reply.read(sink)
    reply.data_received(framed(b"two"))
    reply.data_received(framed(b"three") + END)
    assert (sink.said, sink.ends, reply.fault) == ([b"one", b"two", b"three"], 1, None)
    assert played.given_back == [played.transport]
    reply.close()
    assert not played.transport.closed


@pytest.mark.parametrize("head_end", [b"\r\n\r\n", b"\n\n"])
async def test_an_answer_may_come_byte_by_byte(played: Played, head_end: bytes) -> None:
    reply, sink = played.reply, played.sink
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    wire = early + HEAD.removesuffix(b"\r\n\r\n") + head_end + framed(b"hello") + END
    reply.read(sink)
    for place in range(len(wire)):
        reply.data_received(wire[place : place + 1])
    await reply.begun()
    assert (b"".join(sink.said), sink.ends, reply.status) == (b"hello", 1, 200)


async def test_any_number_of_early_answers_may_come_first(played: Played) -> None:
    played.reply.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000 + HEAD + framed(b"hello") + END)
    played.reply.read(played.sink)
    assert (played.reply.status, played.sink.said, played.sink.ends) == (200, [b"hello"], 1)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_a_body_of_a_known_length_ends_by_itself(played: Played, head: bytes, said: bytes) -> None:
    played.reply.data_received(head)
    played.reply.read(played.sink)
    assert (b"".join(played.sink.said), played.sink.ends) == (said, 1)
    assert played.given_back


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n",
    ],
)
async def test_a_connection_that_cannot_be_used_again_is_closed(played: Played, wire: bytes) -> None:
    played.reply.data_received(wire)
    played.reply.read(played.sink)
    assert (played.sink.said, played.sink.ends) == ([b"abc"], 1)
    assert (played.given_back, played.transport.closed) == ([], True)


async def test_a_connection_on_which_the_request_is_still_being_sent_is_closed(played: Played) -> None:
    played.transport.unsent = 1
    played.reply.data_received(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nabc")
    played.reply.read(played.sink)
    assert (played.sink.said, played.sink.ends, played.reply.fault) == ([b"abc"], 1, None)
    assert (played.given_back, played.transport.closed) == ([], True)


async def test_the_time_for_a_head_follows_its_length_however_it_is_cut() -> None:
    def seconds(size: int) -> float:
        reply = Played().reply
        begun = time.process_time()
        reply.data_received(b"HTTP/1.1 200 OK\r\n")
        for _ in range(size // 6):
            reply.data_received(b"A: b\r\n")
        return time.process_time() - begun

    # Twelve times as long: were all of it searched each time, it would take 70 times as long or more.
    assert min(seconds(60_000) for _ in range(3)) < 36 * min(seconds(5_000) for _ in range(5))


async def test_a_body_without_a_length_ends_with_the_connection_unless_that_broke(played: Played) -> None:
    for error, fault in ((None, None), (ConnectionResetError(), "reset")):
        one = Played()
        one.reply.data_received(b"HTTP/1.1 200 OK\r\n\r\nabc")
        one.reply.read(one.sink)
        one.reply.connection_lost(error)
        assert (one.sink.said, one.sink.ends) == ([b"abc"], 1)
        assert (one.reply.fault.kind if one.reply.fault else None) == fault


@pytest.mark.parametrize("tail", [b"", b"zz\r\n", b"5\r\nab"])
async def test_a_body_that_is_cut_or_broken_is_a_reset_after_what_came(played: Played, tail: bytes) -> None:
    reply, sink = played.reply, played.sink
    reply.data_received(HEAD)
    reply.read(sink)
    reply.data_received(framed(b"one") + tail)
    reply.connection_lost(None)
    assert (b"".join(sink.said).removesuffix(b"ab"), sink.ends) == (b"one", 1)
    assert reply.fault is not None
    assert reply.fault.kind == "reset"
    assert not played.given_back


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD, "protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "protocol"),
        (b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-", "reset"),
        (b"HTTP/1.1 102 Processing\r\n\r\n", "reset"),
        (b"\r\n", "reset"),
        (b"", "reset"),
    ],
)
async def test_without_a_proper_head_there_is_no_answer(played: Played, wire: bytes, kind: str) -> None:
    if wire:
        played.reply.data_received(wire)
    played.reply.connection_lost(None)
    with pytest.raises(UpstreamError) as failed:
        await played.reply.begun()
    assert failed.value.kind == kind
    # Only where nothing came may the request be sent again.
    assert isinstance(failed.value, Disconnected) == (not wire)


async def test_nothing_is_handed_over_while_it_is_paused(played: Played) -> None:
    reply = played.reply
    sink = Sink(reply, pauses=True)
    reply.data_received(HEAD)
    reply.read(sink)
    reply.data_received(framed(b"one"))
    reply.data_received(framed(b"two"))
    reply.data_received(framed(b"three") + END)
    assert (sink.said, sink.ends) == ([b"one"], 0)
    reply.resume()
    assert (sink.said, sink.ends) == ([b"one", b"twothree"], 0)
    reply.resume()
    assert sink.ends == 1
    assert played.given_back


async def test_a_body_that_nobody_reads_does_not_grow(played: Played) -> None:
    reply, transport = played.reply, played.transport
    reply.data_received(HEAD + framed(b"x" * MAX_UNREAD))
    assert transport.reads
    reply.data_received(framed(b"x"))
    assert not transport.reads
    reply.read(played.sink)
    assert transport.reads
    reply.pause()
    assert transport.reads
    reply.data_received(framed(b"y" * (MAX_UNREAD + 1)))
    assert not transport.reads
    reply.resume()
    assert transport.reads
    assert [len(said) for said in played.sink.said] == [MAX_UNREAD + 1, MAX_UNREAD + 1]


async def test_only_a_wait_that_is_too_long_ends_it(played: Played) -> None:
    reply, sink = played.reply, played.sink
    reply.data_received(HEAD)
    reply.read(sink)
    reply.since = 10.0
    reply.look(9.0)
    assert sink.ends == 0
    reply.pause()
    reply.look(99.0)
    assert sink.ends == 0
    reply.resume()
    reply.look(99.0)
    assert (sink.ends, reply.fault and reply.fault.kind) == (1, "timeout")
    assert played.transport.closed


async def test_letting_go_closes_and_says_nothing_more(played: Played) -> None:
    reply, sink = played.reply, played.sink
    reply.data_received(HEAD)
    reply.read(sink)
    reply.close()
    assert played.transport.closed
    reply.data_received(framed(b"late"))
    reply.connection_lost(None)
    assert (sink.said, sink.ends) == ([], 0)


class Lane:
    """Hands all on, and remembers whether it might have taken it."""

    def __init__(self) -> None:
        self.open = False
        self.since = 0.0
        self.reply: Reply | None = None
        self.might: list[bool] = []

    def serve(self, reply: Reply | None) -> None:
        self.reply, self.open = reply, False

    def feed(self, data: bytes) -> None:
        self.might.append(self.open)
        if self.reply is not None:
            self.reply.data_received(data)


async def test_a_lane_may_take_whole_pieces_that_nobody_waits_for(played: Played) -> None:
    reply, lane = played.reply, Lane()
    reply.data_received(HEAD + framed(b"one"))
    reply.pause()
    reply.use(lane)
    way = cast("asyncio.Protocol", played.transport.protocol)
    way.data_received(framed(b"two"))
    assert not played.sink.said
    reply.read(played.sink)
    for piece in (framed(b"three"), framed(b"four")[:4], framed(b"four")[4:], framed(b"five")):
        way.data_received(piece)
    reply.pause()
    way.data_received(framed(b"six"))
    reply.resume()
    way.data_received(END)
    assert b"".join(played.sink.said) == b"onetwothreefourfivesix"
    assert lane.might == [False, True, True, False, True, False, True]
    assert (played.sink.ends, lane.open, lane.reply) == (1, False, None)
    assert way.eof_received() is None


async def test_a_lane_is_let_go_of_with_its_connection_and_counts_for_the_watchdog(played: Played) -> None:
    reply, lane = played.reply, Lane()
    reply.data_received(HEAD)
    reply.pause()
    reply.use(lane)
    reply.use(lane)
    reply.read(played.sink)
    lane.since = 5.0
    reply.look(5.0)
    assert lane.open
    reply.lane_passed()
    reply.lane_broke(RuntimeError())
    assert played.sink.from_lane == ["passed", "broken"]
    played.transport.protocol.connection_lost(None)
    assert (reply.fault.kind if reply.fault else "", lane.reply) == ("reset", None)
    again = Played()
    again.reply.data_received(HEAD)
    again.reply.use(lane)
    again.reply.close()
    assert lane.reply is None
    again.reply.use(lane)
    again.reply.lane_passed()
    again.reply.lane_broke(RuntimeError())
    assert (lane.reply, again.sink.from_lane) == (None, [])
