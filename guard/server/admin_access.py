"""Who may use the admin port."""

from __future__ import annotations

import base64
import binascii
import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from guard.clock import Clock, MonotonicClock
from guard.config import AccessSettings
from guard.dashboard.assets import LOGIN, LOGIN_HEADERS, LOGIN_PARTS, assets
from guard.server.admin_sessions import COOKIE, AdminSessions
from guard.server.keys import read_secret

#: Say nothing of requests, and are asked by machines that hold no token; the others are the page to sign in with.
OPEN = frozenset({"/healthz", "/readyz", *(f"/dashboard/{name}" for name in LOGIN_PARTS)})
#: Set on answers to a browser that has signed in, so that the page can offer to sign out.
SIGNED_IN = "X-Guard-Signed-In"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Longest form to sign in with. Unit: bytes.
_FORM = 8192


class AdminAccess:
    """
    Asks for the token, where there is one, and keeps web pages of others away where there is none.

    A token comes as a bearer token, as the password of HTTP's basic authentication, or once, in the form of the
    dashboard's page to sign in, for a session whose cookie no script can read and no other site can have sent.
    Without a token the port is loopback, and then a page in the operator's browser could reach it: it is refused
    by its name (DNS rebinding) and, where something would change, by its origin.

    Args:
        access: The token.
        clock: For the end of sessions.

    Raises:
        ConfigError: Its file is wrong.
    """

    def __init__(self, access: AccessSettings, clock: Clock | None = None) -> None:
        self._access = access
        self._token: bytes | None = None
        self._sessions = AdminSessions(clock or MonotonicClock())
        self.reload()

    def reload(self) -> None:
        """Read the token again. Raises ConfigError, and keeps what there was."""
        token = read_secret(self._access.admin_token, self._access.admin_token_file, "access.admin_token")
        new = None if token is None else token.encode()
        if new != self._token:
            self._sessions.end_all()
        self._token = new

    def middleware(self) -> Middleware:
        """For the admin application."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path in OPEN:
                return await handler(request)
            if self._token is not None and (answer := await self._signing(request)) is not None:
                return answer
            signed_in = self._check(request)
            response = await handler(request)
            if signed_in and not response.prepared:
                response.headers[SIGNED_IN] = "1"
            return response

        return check

    def authorization(self, request: web.Request) -> str | None:
        """What a request that came with a session would say with the token: to ask on for it; None without one."""
        if self._token is None or not self._sessions.holds(request.cookies.get(COOKIE)):
            return None
        return f"Bearer {self._token.decode()}"

    def _check(self, request: web.Request) -> bool:
        """Raise unless the request may be answered; whether it came with a session."""
        signed_in = False
        if self._token is None:
            if not is_here(request.host):
                raise web.HTTPForbidden(text="ask for this port by address or as localhost")
        elif not self._is_token(*tokens(request.headers.get("Authorization"))):
            signed_in = self._sessions.holds(request.cookies.get(COOKIE))
            if not signed_in:
                raise _refusal(request)
        self._check_origin(request)
        return signed_in

    def _check_origin(self, request: web.Request) -> None:
        if request.method not in _SAFE and not same_origin(request):
            raise web.HTTPForbidden(text="requests of other pages change nothing here")

    def _is_token(self, *given: bytes) -> bool:
        return self._token is not None and any(hmac.compare_digest(one, self._token) for one in given)

    async def _signing(self, request: web.Request) -> web.StreamResponse | None:
        """The answer to a request that signs in or out; None for any other."""
        if request.path == "/login" and request.method == "GET":
            if "json" in request.headers.get("Accept", ""):
                return web.json_response({"signed_in": self._sessions.holds(request.cookies.get(COOKIE))})
            return _form()
        if request.method != "POST" or request.path not in ("/login", "/logout"):
            return None
        self._check_origin(request)
        if request.path == "/logout":
            self._sessions.end(request.cookies.get(COOKIE))
            answer = web.Response(status=204, headers={"Cache-Control": "no-store"})
            answer.del_cookie(COOKIE, path="")
            return answer
        if request.content_type != "application/x-www-form-urlencoded" or (request.content_length or _FORM) >= _FORM:
            raise web.HTTPBadRequest(text="send the form of /login")
        given = (await request.post()).get("token", "")
        if not isinstance(given, str) or not self._is_token(given.strip().encode("utf-8", "surrogateescape")):
            return _form(refused=True)
        # Relative, so that it holds behind a proxy with a path of its own; so is the cookie's path, which is left out.
        headers = {"Location": "dashboard", "Cache-Control": "no-store"}
        done = web.Response(status=303, headers=headers)
        done.set_cookie(
            COOKIE, self._sessions.begin(), httponly=True, samesite="Strict", secure=request.secure, path=""
        )
        return done


def _form(*, refused: bool = False) -> web.Response:
    """The page to sign in with. A refusal is no 401: a browser would ask for a password of its own."""
    body = assets()[LOGIN].body
    if refused:
        body = body.replace(b'<p class="error" role="alert" hidden>', b'<p class="error" role="alert">')
    return web.Response(
        body=body,
        status=403 if refused else 200,
        headers={**LOGIN_HEADERS, "Content-Type": assets()[LOGIN].content_type},
    )


def _refusal(request: web.Request) -> web.HTTPException:
    """For a person who wants the page, the way to sign in; for programs, a 401."""
    if request.path.rstrip("/") == "/dashboard" and "text/html" in request.headers.get("Accept", ""):
        # A browser keeps what stands after the # on its way: a link to one exchange still leads there.
        to = "login" if request.path == "/dashboard" else "../login"
        return web.HTTPSeeOther(to, headers={"Cache-Control": "no-store"})
    # A browser would ask for a password in the middle of the page, where its session is only over.
    is_page = request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
    challenge = 'Bearer realm="guard"' if is_page else 'Basic realm="guard", charset="UTF-8"'
    return web.HTTPUnauthorized(
        text="send the admin token as a bearer token or password", headers={"WWW-Authenticate": challenge}
    )


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
    try:
        return origin is None or urlsplit(origin).netloc == request.host
    except ValueError:
        return False


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
