"""The sockets that the guard listens on."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Literal

from aiohttp import web

from guard.config import Listen
from guard.errors import SetupError, system_words

#: Connections that may wait to be accepted; the system may allow fewer (net.core.somaxconn). With aiohttp's 128, a
#: process that is held up for a moment while thousands of clients connect has some of them reset by the kernel.
BACKLOG = 8192


async def listen_on(
    runner: web.BaseRunner,
    listen: Listen,
    setting: Literal["listen", "admin"],
    context: ssl.SSLContext | None,
    *,
    shared: bool = False,
) -> web.BaseSite:
    """
    Have a runner answer on an address, until its runner is cleaned up.

    Args:
        runner: Set up.
        listen: The address.
        setting: The section of the configuration that has it, for messages.
        context: Certificate; None for plain HTTP.
        shared: Other processes listen there too (SO_REUSEPORT).

    Raises:
        SetupError: The address cannot be had.
    """
    with refusals_told(listen, setting):
        site: web.BaseSite
        if _all_addresses(listen.host):
            # The event loops' own sockets take IPv6 alone there, other than those of most servers.
            sock = bound(listen, shared=shared)
            site = web.SockSite(runner, sock, ssl_context=context, backlog=BACKLOG)
        else:
            reuse_port = shared or None
            site = web.TCPSite(
                runner, listen.host, listen.port, ssl_context=context, backlog=BACKLOG, reuse_port=reuse_port
            )
        await site.start()
    assert site._server is not None
    for listening in site._server.sockets:  # type: ignore[attr-defined]
        # What is accepted there has it too.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return site


def bound(listen: Listen, *, shared: bool = False) -> socket.socket:
    """
    A socket that has an address, and does not listen yet; `::` stands for all addresses, those of IPv4 too.

    Args:
        listen: The address.
        shared: Others that say so have it too (SO_REUSEPORT).

    Raises:
        OSError: It cannot be had.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if _all_addresses(listen.host):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # whatever net.ipv6.bindv6only says
        sock.bind((listen.host, listen.port))
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def refusals_told(listen: Listen, setting: Literal["listen", "admin"]) -> Iterator[None]:
    """Errors of the system while an address is taken, as SetupError with a remedy."""
    try:
        yield
    except OSError as error:
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        if error.errno == errno.EADDRINUSE:
            remedy = f"change {setting}.port, or stop what uses it"
        elif error.errno in (errno.EACCES, errno.EPERM):
            remedy = f"change {setting}.port: those below 1024 are the system's"
        else:
            remedy = f"change {setting}.host to an address of this machine"
        raise SetupError(f"cannot listen on {host}:{listen.port}: {system_words(error)}; {remedy}") from error


def _all_addresses(host: str) -> bool:
    """Whether it is `::`, however that is written."""
    try:
        return int(IPv6Address(host)) == 0
    except ValueError:
        return False
