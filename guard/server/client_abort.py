"""
A client's own abort on SGLang, by the id that it gave its request: it is sent on to the replica that is at work on
that now, under the id by which the engine knows it (`core.engine_id`). What no exchange of this process is known by
passes as it came, and so does one for all requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from guard.core.engine_id import engine_id, given_ids
from guard.core.exchange import Exchange
from guard.proto.client import ClientRequest
from guard.server.abort import ABORT_ROUTES
from guard.server.upstream import Upstream, UpstreamPool

_ENGINE: Final = "sglang"
#: Longest body that is looked into; an abort is an id and few words. Unit: bytes.
_MOST: Final = 64 * 1024


class Aim(NamedTuple):
    """Where a request goes, None for anywhere, and with which body."""

    upstream: Upstream | None
    body: bytes


class _Named(NamedTuple):
    asked: ClientRequest
    nonce: str
    exchange: Exchange


class Naming:
    """
    Keeps an exchange under its ids while it is entered.

    Args:
        known: Exchanges by id.
        ids: Of this one; mostly none.
        one: It.
    """

    __slots__ = ("_ids", "_known", "_one")

    def __init__(self, known: dict[str, _Named], ids: Sequence[str], one: _Named) -> None:
        self._known = known
        self._ids = ids
        self._one = one

    def __enter__(self) -> None:
        for rid in self._ids:
            self._known[rid] = self._one

    def __exit__(self, *_: object) -> None:
        for rid in self._ids:
            if self._known.get(rid) is self._one:
                del self._known[rid]


class ClientAborts:
    """
    The exchanges in flight whose clients chose the engine's id.

    Args:
        pool: Replicas.
    """

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool
        self._named: dict[str, _Named] = {}

    def named(self, asked: ClientRequest, nonce: str, exchange: Exchange) -> Naming:
        """While the context lasts, an exchange is in flight; its nonce is that of its settings."""
        return Naming(self._named, given_ids(asked), _Named(asked, nonce, exchange))

    @staticmethod
    def concerns(request: web.BaseRequest) -> bool:
        """Whether a request that is not guarded is an abort that can be looked into."""
        if request.path != ABORT_ROUTES[_ENGINE] or request.method != "POST" or "Content-Encoding" in request.headers:
            return False
        return request.content_length is not None and request.content_length <= _MOST

    def aim(self, body: bytes) -> Aim:
        """What becomes of an abort with this body."""
        try:
            said = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return Aim(None, body)
        rid = said.get("rid") if isinstance(said, dict) and not said.get("abort_all") else None
        found = self._running(rid) if isinstance(rid, str) else None
        return Aim(found[0], msgspec.json.encode({**said, "rid": found[1]})) if found is not None else Aim(None, body)

    def _running(self, rid: str) -> tuple[Upstream, str] | None:
        """The replica that is at work for it, and the id there."""
        one = self._named.get(rid)
        attempt = one.exchange.attempt if one is not None else None
        if one is None or attempt is None or not attempt.open or attempt.target.engine != _ENGINE:
            return None
        mark = engine_id(one.asked, _ENGINE, one.nonce, attempt.record.number).mark
        places = (upstream for upstream in self._pool.upstreams if upstream.name == attempt.target.replica)
        return next(((upstream, rid + mark.decode()) for upstream in places), None)
