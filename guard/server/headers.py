"""Which headers cross the guard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from multidict import CIMultiDict
from yarl import URL

from guard.server.admin_sessions import COOKIE

#: RFC 9110 section 7.6.1: they belong to one connection.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Of an attempt, whose body the guard writes itself.
_OF_ATTEMPT = (("Content-Type", "application/json"), ("Accept-Encoding", "identity"))
#: Made anew for it, or for its connection.
_MADE = frozenset(
    {"content-length", "content-encoding", "host", "expect", "x-request-id", *(name.lower() for name, _ in _OF_ATTEMPT)}
)


def end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """All headers but those of the connection, those that `Connection` names included; repeats are kept."""
    return CIMultiDict([(name, value) for name, _, value in _crossing(headers)])


def _crossing(headers: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Name, name in lower case, and value of the headers that cross the guard."""
    names = headers.get("Connection")
    named = frozenset(name.strip().lower() for name in names.split(",")) if names is not None else ()
    for name, value in headers.items():
        lower = name.lower()
        if lower in HOP_BY_HOP or lower in named:
            continue
        if lower == "cookie" and COOKIE in value and not (value := _without_session(value)):
            continue
        yield name, lower, value


def _without_session(cookies: str) -> str:
    """A Cookie header without the dashboard's session: browsers send it to every port of the guard's host."""
    pairs = (pair.strip() for pair in cookies.split(";"))
    return "; ".join(pair for pair in pairs if pair.partition("=")[0].strip() != COOKIE)


def for_attempt(headers: Mapping[str, str], request_id: str) -> CIMultiDict[str]:
    """Headers of an upstream attempt: the client's, with a body and a request id of the guard's."""
    crossing = _crossing(headers)
    kept = [(name, value) for name, lower, value in crossing if lower not in _MADE and not lower.startswith("x-guard-")]
    kept.append(("X-Request-Id", request_id))
    kept += _OF_ATTEMPT
    return CIMultiDict(kept)


def lowered(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Response headers for the core: names in lower case, without those of the connection, or of another guard."""
    named = ((name.lower(), value) for name, value in pairs)
    return tuple((name, value) for name, value in named if name not in HOP_BY_HOP and not name.startswith("x-guard-"))


#: Response headers that say where something is.
_PLACES = ("Location", "Content-Location")


def led_home(headers: CIMultiDict[str], upstream: str) -> CIMultiDict[str]:
    """
    Response headers in which addresses of the backend itself are paths of the guard.

    A framework that redirects `/v1/models/` to `/v1/models` names the host it was asked by, the backend's: a client
    that follows would go on past the guard, or to a name that it cannot resolve.

    Args:
        headers: Of a backend's answer; changed.
        upstream: The backend's base URL.
    """
    for name in _PLACES:
        if name in headers:
            headers[name] = _at_home(headers[name], upstream)
    return headers


def _at_home(place: str, upstream: str) -> str:
    try:
        there, base = URL(place, encoded=True), URL(upstream, encoded=True)
        if there.absolute and not _same_place(there, base):
            return place
        path, below = there.raw_path, base.raw_path.rstrip("/")
        if not path.startswith("/"):
            return place  # beside the path that was asked for
        if below and path != below and not path.startswith(below + "/"):
            return place  # not of what the guard passes on
        query, fragment = there.raw_query_string, there.raw_fragment
    except ValueError:
        return place
    # Never two slashes at the beginning: what follows them would be a host.
    path = "/" + path.removeprefix(below).lstrip("/")
    return path + (f"?{query}" if query else "") + (f"#{fragment}" if fragment else "")


def _same_place(one: URL, other: URL) -> bool:
    """Whether both are at one host and port; a backend behind TLS may take itself for one without."""
    if one.scheme not in ("", "http", "https") or (one.raw_host or "").lower() != (other.raw_host or "").lower():
        return False
    return one.explicit_port == other.explicit_port or (one.port is not None and one.port == other.port)
