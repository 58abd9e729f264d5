"""
The answer to one attempt, read straight from its connection: no task, queue or timer for a piece of its body.

A reply is the protocol of its connection for as long as the answer lasts. aiohttp's parser reads the head;
`guard.proto.http_body` takes the body out of its encoding.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Protocol, cast

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpResponseParser, RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy

from guard.errors import UpstreamError
from guard.proto.http_body import Body, ChunkedBody, OpenBody, SizedBody
from guard.server.lane import Quick

#: Largest head of an answer. Unit: bytes.
MAX_HEAD = 128 * 1024
#: Longest line of one. Unit: bytes.
MAX_LINE = 16 * 1024
#: Most that is kept of a body that nobody reads now; with more, its connection is not read either. Unit: bytes.
MAX_UNREAD = 64 * 1024

_HEAD_END = re.compile(rb"\r?\n\r?\n")
#: Longest part of it that can stand before its last byte.
_OVERLAP = 3
_BODILESS = frozenset({204, 304})
_IMPROPER = "the backend does not speak HTTP properly"
_CUT = "the backend closed the connection in the middle of its answer"
_SILENT = "the backend did not answer in time"


class Sink(Protocol):
    """Who reads a body. Neither call may raise."""

    def take(self, data: bytes) -> None:
        """The next piece. `Reply.pause` may be called meanwhile: then nothing follows until `Reply.resume`."""
        ...

    def passed(self) -> None:
        """Something passed by a lane, and something is to be done: a look, or a pause."""
        ...

    def broken(self, error: Exception) -> None:
        """A lane failed."""
        ...

    def over(self) -> None:
        """Nothing more comes: `Reply.fault` says why, if the body is not whole. Called once."""
        ...


class Disconnected(UpstreamError):
    """The connection ended before a byte of an answer came."""

    def __init__(self) -> None:
        super().__init__("reset", _CUT)


class Reply(asyncio.Protocol):
    """
    See the module.

    Args:
        loop: The running loop.
        give_back: Takes the connection once it can be used again.
    """

    __slots__ = (
        "_begun", "_body", "_give_back", "_head", "_keep", "_kept", "_lane", "_over", "_paused", "_silent",
        "_sink", "_transport", "_unread", "fault", "headers", "since", "status", "waiting",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, give_back: Callable[[asyncio.Transport], None]) -> None:
        self.status = 0
        self.headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
        #: Why the body is not whole; None while it may be.
        self.fault: UpstreamError | None = None
        #: For the watchdog: when the wait for the next piece began, and whether one is waited for. Unit: seconds.
        self.since = 0.0
        self.waiting = False
        #: May take pieces past the sink; None for none.
        self._lane: Quick | None = None
        self._give_back = give_back
        #: Whether a head came.
        self._begun: asyncio.Future[bool] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()
        self._silent = True  # not a byte has come
        self._body: Body | None = None
        self._keep = False
        self._sink: Sink | None = None
        self._unread: list[bytes] = []
        self._kept = 0  # in it
        self._paused = False
        self._over = False

    async def begun(self) -> None:
        """
        Wait for the head.

        Raises:
            UpstreamError: None came.
        """
        if not await self._begun:
            # One of its own: the error that is raised holds the frames it passes, and they hold this reply.
            fault = self.fault
            if fault is None or isinstance(fault, Disconnected):
                raise Disconnected
            raise UpstreamError(fault.kind, fault.message)

    # -- the connection ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        body = self._body
        if body is None:
            self._read_head(data)
            return
        if self._over:
            return
        said = body.feed(data)
        if said:
            if self._sink is None or self._paused:
                self._unread.append(said)
                self._kept += len(said)
                if self._kept > MAX_UNREAD:
                    self._reading(on=False)
            else:
                self._sink.take(said)
        if body.over:
            self._body_over(body)
        elif self._lane is not None:
            self._open_lane()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        if self._over:
            return
        if self._body is None:
            self._end(Disconnected() if self._silent else UpstreamError("reset", _CUT))
        else:
            self._end(None if exc is None and self._body.closed() else UpstreamError("reset", _CUT))

    # -- its reader -------------------------------------------------------------------------------------

    def read(self, sink: Sink) -> None:
        """Hand the body to a sink from now on, beginning with what came already."""
        self._sink = sink
        self.resume()

    def use(self, lane: Quick) -> None:
        """Let a lane have all pieces first from now on; to be called while paused."""
        if self._transport is None or self._over or self._lane is lane:
            return
        self._leave_lane()
        self._lane = lane
        lane.serve(self)
        self._transport.set_protocol(_Way(self, lane.feed))

    def lane_passed(self) -> None:
        """See Served."""
        if self._sink is not None:
            self._sink.passed()

    def lane_broke(self, error: Exception) -> None:
        """See Served: as if the sink had failed."""
        if self._sink is not None:
            self._sink.broken(error)

    def pause(self) -> None:
        """Hand over nothing until `resume`. What comes meanwhile is kept, up to MAX_UNREAD and one read more."""
        self._paused, self.waiting = True, False
        if self._lane is not None:
            self._lane.open = False

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused, self.waiting = False, True
        if self._unread and self._sink is not None:
            data, self._kept = b"".join(self._unread), 0
            self._unread.clear()
            self._sink.take(data)
            if self._paused:
                return
        if not self._over:
            self._reading(on=True)
            self._open_lane()
        elif self._sink is not None:
            self._sink.over()

    def close(self) -> None:
        """Let go. Before the end of the body it closes the connection: the abort that every engine understands."""
        self._sink, self._over, self.waiting = None, True, False
        self._leave_lane()
        self._unread.clear()
        self._drop()

    def look(self, latest: float) -> None:
        """For the watchdog: end a wait that began before `latest`."""
        lane = self._lane
        since = self.since if lane is None else max(self.since, lane.since)
        if self.waiting and not self._over and since < latest:
            self._fail(UpstreamError("timeout", _SILENT))

    # -- inside -----------------------------------------------------------------------------------------

    def _open_lane(self) -> None:
        """Let the lane take the next piece, if it may be one."""
        lane, body = self._lane, self._body
        if lane is not None:
            free = isinstance(body, ChunkedBody) and body.between
            lane.open = free and not (self._over or self._paused or self._sink is None)

    def _leave_lane(self) -> None:
        if self._lane is not None:
            self._lane.serve(None)
            self._lane = None

    def _read_head(self, data: bytes) -> None:
        self._silent = False
        head = self._head
        start = max(len(head) - _OVERLAP, 0)
        head += data
        while (found := _HEAD_END.search(head, start)) is not None:
            start = 0
            try:
                message = head_of(bytes(head[: found.end()]))
            except HttpProcessingError as error:
                # The error itself quotes what the backend said.
                self._fail(UpstreamError("protocol", f"{_IMPROPER} ({type(error).__name__})"))
                return
            if message.code == 101 or message.code < 100:
                # Nobody has asked for another protocol.
                self._fail(UpstreamError("protocol", f"{_IMPROPER} (status {message.code})"))
                return
            del head[: found.end()]
            if message.code >= 200:
                self._begin(message, bytes(head))
                head.clear()
                return
        if len(head) > MAX_HEAD:
            self._fail(UpstreamError("protocol", "the backend's head is too large"))

    def _begin(self, message: RawResponseMessage, rest: bytes) -> None:
        """The final head is there, and the beginning of the body perhaps."""
        self.status, self.headers = message.code, message.headers
        self._body = body_of(message)
        self._keep = not (message.should_close or isinstance(self._body, OpenBody))
        if not self._begun.done():
            self._begun.set_result(True)
        if self._body.over:
            self._body.rest = rest
            self._body_over(self._body)
        elif rest:
            self.data_received(rest)

    def _body_over(self, body: Body) -> None:
        if body.failure is not None:
            self._fail(UpstreamError("reset", _CUT))
            return
        self._reading(on=True)
        transport, self._transport = self._transport, None
        if transport is not None:
            # What is left of a request that was answered early would come before the next one.
            sent = not transport.get_write_buffer_size()
            if self._keep and sent and not body.rest and not transport.is_closing():
                self._give_back(transport)
            else:
                transport.abort()
        self._end(None)

    def _fail(self, fault: UpstreamError) -> None:
        self._drop()
        self._end(fault)

    def _end(self, fault: UpstreamError | None) -> None:
        self._over, self.fault = True, fault
        self._leave_lane()
        if not self._begun.done():
            self._begun.set_result(False)
        elif self._sink is not None and not self._paused:
            self.waiting = False
            self._sink.over()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def _reading(self, *, on: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not on:
            transport.pause_reading()
        elif not transport.is_reading():
            transport.resume_reading()


class _Way(asyncio.BaseProtocol):
    """
    The protocol of a connection whose pieces go to a lane: the loop calls it at once, without a function in Python.

    Args:
        reply: Whose connection.
        feed: Of the lane.
    """

    __slots__ = ("_reply", "data_received")

    def __init__(self, reply: Reply, feed: Callable[[bytes], None]) -> None:
        self._reply = reply
        self.data_received = feed

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._reply.connection_lost(exc)

    def eof_received(self) -> None:
        """See asyncio.Protocol: the connection is closed then."""


@functools.lru_cache(maxsize=32)
def head_of(head: bytes) -> RawResponseMessage:
    """
    Read the head of an answer. A backend's heads differ by their second: most were read before.

    Args:
        head: All of it, with the empty line.

    Raises:
        HttpProcessingError: It is none.
    """
    loop = asyncio.get_running_loop()
    # The protocol would control the flow of a body, which the parser never sees.
    parser = HttpResponseParser(
        BaseProtocol(loop),
        loop,
        MAX_UNREAD,
        max_line_size=MAX_LINE,
        max_field_size=MAX_LINE,
        read_until_eof=True,
        auto_decompress=False,
    )
    messages, _, _ = parser.feed_data(head)
    if not messages:
        raise HttpProcessingError(message="no head")
    return messages[0][0]


def body_of(message: RawResponseMessage) -> Body:
    """
    The body that follows a head.

    Source:
        RFC 9112, section 6.3.
    """
    if message.code in _BODILESS:
        return SizedBody(0)
    if message.chunked:
        return ChunkedBody()
    size = message.headers.get("Content-Length")
    if size is not None and "Transfer-Encoding" not in message.headers:
        return SizedBody(int(size))
    return OpenBody()
