"""
Preflights: what a browser asks before a page may send a request to another origin (CORS).

A browser never sends a key with a preflight, so one that wanted a key would keep every page out. It goes on to a
backend as it would without the guard, and the answer, like the CORS headers of all other answers, is the backend's own:
two places that say which pages may come would contradict each other sooner or later. vLLM, SGLang and llama.cpp too
ask for no key there, and answer before any of their routes. What it opens is narrow: OPTIONS alone, on a path that is
offered, no body, the headers of a preflight and no others, few at once. Nothing is generated, and the request that
follows needs its key. Where nobody is asked for a key, a preflight is passed on like all else.

Source:
    Fetch standard, section 4.8 "CORS-preflight fetch".
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from multidict import CIMultiDict

#: Headers of a preflight that go on where it came without a key; any other could mean something to a backend.
_SAID = frozenset(
    {
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
        "access-control-request-private-network",
        "accept",
        "user-agent",
        "via",  # by which a request that goes round is known
    }
)
METHOD = "Access-Control-Request-Method"


def is_preflight(request: web.BaseRequest) -> bool:
    """Whether a request is one: it has no body, and names the page's origin and the method that is to follow."""
    if request.method != "OPTIONS" or request.can_read_body:
        return False
    return "Origin" in request.headers and bool(request.headers.get(METHOD))


def said(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Of the headers that came with a preflight, those of the preflight."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() in _SAID)
