"""
The body of an HTTP/1.1 message, sans-IO: what came from the connection in, what was sent in it out.

One object for each body, of one of three kinds, as its head has it: in chunks, of a known length, or up to the
end of the connection. However the bytes are cut, what comes out, joined, is the same. Nothing is kept back but
the beginning of a line.

Source:
    RFC 9112, sections 6.3 and 7.1. As aiohttp does, LF alone ends a line and blanks may follow a chunk's size.
"""

from __future__ import annotations

import re
from typing import Protocol

from guard.errors import ProtocolError

#: Longest line (a chunk's size with its extensions, one trailer). Unit: bytes.
MAX_LINE = 16 * 1024
#: Most that all trailers may have. Unit: bytes.
MAX_TRAILERS = 64 * 1024

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
#: What can still become such a line.
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{1,16}[ \t]*(?:;[^\r\n]*)?\r?")
#: The usual sizes, as they are usually written.
_SIZES = {b"%x" % size: size for size in range(1, 4096)}
_NOT_CHUNKED = "the chunked encoding is broken"

_AT_SIZE, _IN_DATA, _AFTER_DATA, _IN_TRAILERS = range(4)


class Body(Protocol):
    """
    A body being read.

    `over` is set once nothing more of it will come: it is whole, or `failure` says what is wrong. Of a whole
    one `rest` is what followed it.
    """

    over: bool
    failure: ProtocolError | None
    rest: bytes

    def feed(self, data: bytes) -> bytes:
        """What the next bytes bring of the body. Not to be called when it is over."""
        ...

    def closed(self) -> bool:
        """The connection is at its end; whether the body is whole."""
        ...


class ChunkedBody:
    """A body in chunks. See Body."""

    __slots__ = ("_left", "_line", "_state", "_trailers", "failure", "over", "rest")

    def __init__(self) -> None:
        self.over = False
        self.failure: ProtocolError | None = None
        self.rest = b""
        self._state = _AT_SIZE
        self._line = b""  # the beginning of a line
        self._left = 0  # of the chunk
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """See Body."""
        if self._state == _AT_SIZE and not self._line:
            start = data.find(b"\r\n", 0, 10) + 2
            size = _SIZES.get(data[: start - 2], 0)
            # Exactly one whole chunk, which is how engines write and most reads arrive.
            if size and start + size + 2 == len(data) and data.endswith(b"\r\n"):
                return data[start:-2]
        return self._feed(data)

    @property
    def between(self) -> bool:
        """Whether what comes next is the beginning of a chunk."""
        return self._state == _AT_SIZE and not self._line and not self.over

    def closed(self) -> bool:
        """See Body."""
        return self.over and self.failure is None

    def _feed(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        at, end = 0, len(data)
        while at < end and not self.over:
            if self._state == _IN_DATA:
                piece = data[at : at + self._left]
                parts.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _AFTER_DATA
                continue
            stop = data.find(b"\n", at) + 1
            line = self._line + data[at : stop or end]
            at = stop or end
            try:
                self._take(line, whole=stop > 0)
            except ProtocolError as error:
                # What came before the fault was sent.
                self.over, self.failure = True, error
        if self.over and self.failure is None:
            self.rest = data[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take(self, line: bytes, *, whole: bool) -> None:
        """A line, or the beginning of one."""
        self._line = b"" if whole else line
        if len(line) > MAX_LINE:
            raise ProtocolError(_NOT_CHUNKED, where="a line without end")
        if self._state == _AT_SIZE:
            found = (_SIZE if whole else _SIZE_BEGUN).fullmatch(line)
            if found is None:
                raise ProtocolError(_NOT_CHUNKED, where="a chunk's size")
            if whole:
                self._left = int(found[1], 16)
                self._state = _IN_DATA if self._left else _IN_TRAILERS
        elif self._state == _AFTER_DATA:
            if line not in (b"\r\n", b"\n", b"\r"):
                raise ProtocolError(_NOT_CHUNKED, where="the end of a chunk")
            if whole:
                self._state = _AT_SIZE
        elif whole:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS:
                raise ProtocolError(_NOT_CHUNKED, where="trailers without end")
            self.over = line in (b"\r\n", b"\n")


class SizedBody:
    """
    A body of a known length. See Body.

    Args:
        size: Its length. Unit: bytes.
    """

    __slots__ = ("_left", "failure", "over", "rest")

    def __init__(self, size: int) -> None:
        self.over = size == 0
        self.failure: ProtocolError | None = None
        self.rest = b""
        self._left = size

    def feed(self, data: bytes) -> bytes:
        """See Body."""
        self._left -= len(data)
        if self._left > 0:
            return data
        self.over = True
        if self._left == 0:
            return data
        self.rest = data[self._left :]
        return data[: self._left]

    def closed(self) -> bool:
        """See Body."""
        return self.over


class OpenBody:
    """A body that ends with its connection. See Body."""

    __slots__ = ("failure", "over", "rest")

    def __init__(self) -> None:
        self.over = False
        self.failure: ProtocolError | None = None
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """See Body."""
        return data

    def closed(self) -> bool:
        """See Body."""
        self.over = True
        return True
