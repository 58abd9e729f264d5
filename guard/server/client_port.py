"""
The HTTP server of the client port: aiohttp's, without what a guarded request has no use for.

One handler takes every path and method; there is no application, router or middleware. A connection is taken as the
listening socket has it set (see `ports.listen_on`): aiohttp alone would make a socket object of it twice, six calls of
the system in all, before a byte of its first request is read.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol

#: Has no socket to be set.
_SOCKETLESS = asyncio.Transport()


class _AsItIs(BaseProtocol):
    """Both event loops switch off Nagle's algorithm themselves on every connection that they accept."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(_SOCKETLESS)
        self.transport = cast("asyncio.Transport", transport)


class _Connection(web.RequestHandler, _AsItIs):
    """A client's."""

    __slots__ = ()


class _Server(web.Server):
    """Makes the connections."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


def client_runner(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    last: Callable[[], bool],
    options: dict[str, Any],
    closing: float,
) -> web.BaseRunner:
    """
    What runs the client port.

    Args:
        handler: Answers each request, whatever its path and method.
        last: Whether each answer says that it is the last on its connection: while the guard drains.
        options: How HTTP is spoken, in the words of aiohttp's server.
        closing: What requests that are still open get when the port closes. Unit: seconds.
    """

    class ClientRequest(web.BaseRequest):
        """See `last`."""

        @property
        def keep_alive(self) -> bool:
            return bool(super().keep_alive) and not last()

    made = functools.partial(ClientRequest, loop=asyncio.get_running_loop())
    server = _Server(handler, request_factory=made, **{**options, "tcp_keepalive": False})
    return web.ServerRunner(server, shutdown_timeout=closing)
