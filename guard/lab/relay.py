"""One HTTP exchange passed on byte for byte, and a count of the tokens that went by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict

from guard.proto.sse import SseParser

#: Routes of llama.cpp that generate.
GENERATION_PATHS = frozenset({
    "/completion", "/completions", "/v1/completions", "/chat/completions", "/v1/chat/completions",
    "/v1/messages", "/v1/responses",
})  # fmt: skip

#: Headers that belong to one connection, or that this hop sets itself.
_HOP_HEADERS = frozenset({
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection",
    "host", "content-length",
})  # fmt: skip


class _Timings(msgspec.Struct, gc=False):
    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class _Counted(msgspec.Struct, gc=False):
    timings: _Timings | None = None


class TokenCounter:
    """
    Counts the tokens of one streamed reply.

    With `timings_per_token` in the request the engine's own count is used; without it each event
    with data counts as one token, which llama.cpp keeps to.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.context_tokens = 0
        self._events = SseParser()
        self._decoder = msgspec.json.Decoder(_Counted)

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the reply."""
        for event in self._events.feed(piece):
            if event.data is None or event.data == b"[DONE]":
                continue
            try:
                timings = self._decoder.decode(event.data).timings
            except msgspec.DecodeError:
                timings = None
            if timings is None:
                self.tokens += 1
                continue
            self.tokens = timings.predicted_n
            self.context_tokens = timings.cache_n + timings.prompt_n + timings.predicted_n


def upstream_headers(request: web.Request) -> CIMultiDict[str]:
    """The client's headers without those of its connection."""
    return CIMultiDict((name, value) for name, value in request.headers.items() if not _is_hop(name))


def _is_hop(name: str) -> bool:
    return name.lower() in _HOP_HEADERS


async def relay(
    request: web.Request,
    upstream: aiohttp.ClientResponse,
    before_write: Callable[[bytes], Awaitable[None]] | None = None,
) -> web.StreamResponse:
    """
    Pass a reply on as it arrives.

    Args:
        request: The client's request.
        upstream: The backend's reply, its body not yet read and not to be decoded.
        before_write: Called with each piece before it goes to the client.

    Returns:
        The finished response. When the backend breaks off, so does the client's connection.
    """
    headers = CIMultiDict((name, value) for name, value in upstream.headers.items() if not _is_hop(name))
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
    response.content_length = upstream.content_length
    await response.prepare(request)
    try:
        async for piece in upstream.content.iter_any():
            if before_write is not None:
                await before_write(piece)
            await response.write(piece)
    except aiohttp.ClientPayloadError:
        if request.transport is not None:
            request.transport.close()
        raise
    await response.write_eof()
    return response
