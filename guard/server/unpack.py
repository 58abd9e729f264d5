"""
Request bodies that a client compressed.

A body is unfolded piece by piece and never beyond the size that an uncompressed one may have, so that a small body
cannot fill the memory.
"""

from __future__ import annotations

import zlib

from guard.errors import RequestError

#: Codings of a request body (RFC 9110 section 8.4.1) that are unfolded here.
ACCEPTED = "gzip, deflate"
_GZIP = frozenset({"gzip", "x-gzip"})
#: Input unfolded at once. Unit: bytes.
_PIECE = 65_536
#: Members of one gzip body; each is work, even an empty one.
_MAX_MEMBERS = 1000
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def coding_of(header: str) -> str:
    """
    The one coding that a Content-Encoding header names.

    Args:
        header: Its value; empty where there is none.

    Returns:
        "gzip", "deflate", or empty for a body as it is.

    Raises:
        RequestError: 415. Another coding, or several, one upon the other.
    """
    if not header:
        return ""
    names = [name.strip().lower() for name in header.split(",")]
    named = [name for name in names if name not in ("", "identity")]
    if not named:
        return ""
    if len(named) == 1 and named[0] in _GZIP:
        return "gzip"
    if named == ["deflate"]:
        return "deflate"
    raise RequestError(
        f"a request body in {', '.join(named)} is not understood; send it as it is, or in one of: {ACCEPTED}",
        status=415,
        code="unsupported_encoding",
    )


def unpacked(body: bytes, coding: str, limit: int) -> bytes:
    """
    The body behind a coding.

    Args:
        body: As it came.
        coding: "gzip" or "deflate"; the latter with zlib's frame or, as some clients have it, without.
        limit: Most it may come to. Unit: bytes.

    Raises:
        RequestError: 413 when it comes to more; 400 when it is cut short or not of that coding.
    """
    out: list[bytes] = []
    left, at = limit, 0
    while at < len(body) or not out:
        if len(out) == _MAX_MEMBERS or (out and coding == "deflate"):
            raise RequestError("something follows the end of the compressed body", code="invalid_encoding")
        piece, at = _member(body, at, _window(body, coding), left)
        if len(piece) > left:
            raise RequestError(
                f"the request body comes to more than {limit} bytes when unfolded (limits.max_request_bytes)",
                status=413,
            )
        left -= len(piece)
        out.append(piece)
    return out[0] if len(out) == 1 else b"".join(out)


def _window(body: bytes, coding: str) -> int:
    """The `wbits` for zlib. A zlib frame begins with two bytes that are, as a number, a multiple of 31 (RFC 1950)."""
    if coding == "gzip":
        return _GZIP_WINDOW
    framed = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.MAX_WBITS if framed else -zlib.MAX_WBITS


def _member(body: bytes, at: int, window: int, left: int) -> tuple[bytes, int]:
    """
    One compressed member.

    Args:
        body: All of the body.
        at: Where the member begins in it.
        window: zlib's `wbits`.
        left: Most it may come to; one byte more is enough to tell that it does. Unit: bytes.

    Returns:
        What it holds, and where it ends.
    """
    engine = zlib.decompressobj(window)
    out: list[bytes] = []
    size = 0
    data = b""
    try:
        while not engine.eof and size <= left:
            if not data:
                data = body[at : at + _PIECE]
                at += len(data)
                if not data:
                    raise RequestError("the compressed body is cut short", code="invalid_encoding")
            piece = engine.decompress(data, left - size + 1)
            size += len(piece)
            out.append(piece)
            data = engine.unconsumed_tail
    except zlib.error as error:
        raise RequestError(
            f"the body is not what its Content-Encoding says: {error}", code="invalid_encoding"
        ) from error
    return b"".join(out), at - len(engine.unused_data)
