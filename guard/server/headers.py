"""Which headers cross the guard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from multidict import CIMultiDict

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
#: Made anew for a body that the guard writes itself.
_BODY = frozenset({"content-length", "content-encoding", "host", "accept-encoding", "expect"})


def end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """All headers but those of the connection, those that `Connection` names included; repeats are kept."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    out: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower not in HOP_BY_HOP and lower not in named:
            if lower == "cookie" and COOKIE in value and not (value := _without_session(value)):
                continue
            out.add(name, value)
    return out


def _without_session(cookies: str) -> str:
    """A Cookie header without the dashboard's session: browsers send it to every port of the guard's host."""
    pairs = (pair.strip() for pair in cookies.split(";"))
    return "; ".join(pair for pair in pairs if pair.partition("=")[0].strip() != COOKIE)


def for_attempt(headers: Mapping[str, str], request_id: str) -> CIMultiDict[str]:
    """Headers of an upstream attempt: the client's, with a body and a request id of the guard's."""
    out: CIMultiDict[str] = CIMultiDict()
    for name, value in end_to_end(headers).items():
        lower = name.lower()
        if lower not in _BODY and not lower.startswith("x-guard-"):
            out.add(name, value)
    out["X-Request-Id"] = request_id
    out["Content-Type"] = "application/json"
    out["Accept-Encoding"] = "identity"
    return out


def lowered(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Response headers for the core: names in lower case, those of the connection left out."""
    return tuple((k.lower(), v) for k, v in pairs if k.lower() not in HOP_BY_HOP)
