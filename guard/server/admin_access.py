"""Who may use the admin port."""

from __future__ import annotations

import base64
import binascii
import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from guard.config import AccessSettings
from guard.server.keys import read_secret

#: Say nothing of requests, and are asked by machines that hold no token.
OPEN = frozenset({"/healthz", "/readyz"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class AdminAccess:
    """
    Asks for the token, where there is one, and keeps web pages of others away where there is none.

    A token comes as a bearer token, or as the password of HTTP's basic authentication, for which browsers ask.
    Without a token the port is loopback, and then a page in the operator's browser could reach it: it is refused
    by its name (DNS rebinding) and, where something would change, by its origin.

    Args:
        access: The token.

    Raises:
        ConfigError: Its file is wrong.
    """

    def __init__(self, access: AccessSettings) -> None:
        self._access = access
        self._token: bytes | None = None
        self.reload()

    def reload(self) -> None:
        """Read the token again. Raises ConfigError, and keeps what there was."""
        token = read_secret(self._access.admin_token, self._access.admin_token_file, "access.admin_token")
        self._token = None if token is None else token.encode()

    def middleware(self) -> Middleware:
        """For the admin application."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path not in OPEN:
                self._check(request)
            return await handler(request)

        return check

    def _check(self, request: web.Request) -> None:
        if self._token is None:
            if not is_here(request.host):
                raise web.HTTPForbidden(text="ask for this port by address or as localhost")
        elif not any(hmac.compare_digest(given, self._token) for given in tokens(request.headers.get("Authorization"))):
            challenge = {"WWW-Authenticate": 'Basic realm="guard", charset="UTF-8"'}
            raise web.HTTPUnauthorized(text="send the admin token as a bearer token or password", headers=challenge)
        if request.method not in _SAFE and not same_origin(request):
            raise web.HTTPForbidden(text="requests of other pages change nothing here")


def is_here(host: str) -> bool:
    """Whether a Host header names an address or localhost, which no other site can point at this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return True


def same_origin(request: web.Request) -> bool:
    """Whether a request comes from a page of this port, or from no page at all."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


def tokens(authorization: str | None) -> list[bytes]:
    """What an Authorization header may hold as a token."""
    scheme, _, rest = (authorization or "").partition(" ")
    given = rest.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "bearer":
        return [given]
    if scheme.lower() == "basic":
        try:
            return [base64.b64decode(given, validate=True).partition(b":")[2]]
        except binascii.Error:
            return []
    return []
