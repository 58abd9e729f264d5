"""The page's files, read once, and the headers that keep it to itself."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

#: Nothing from elsewhere, nothing inline, never inside a frame.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: File at which the page begins.
INDEX = "index.html"
#: The page to sign in with, where there is an admin token; it may send its one form to the guard. Never cached.
LOGIN = "login.html"
LOGIN_HEADERS = {
    **SECURITY_HEADERS,
    "Content-Security-Policy": SECURITY_HEADERS["Content-Security-Policy"].replace(
        "form-action 'none'", "form-action 'self'"
    ),
    # Without a referrer a browser sends its form from the origin "null".
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: What that page is made of besides: anybody may have these.
LOGIN_PARTS = ("base.css", "icon.svg", "login.css", "login.js")

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOLDER = Path(__file__).parent / "static"


class Asset(NamedTuple):
    """
    One file.

    Args:
        body: Its content.
        content_type: For the header.
        tag: Changes with the content, quotes included as HTTP has it.
    """

    body: bytes
    content_type: str
    tag: str


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """All files by name. Names that are not here do not exist: no path is ever made from a request."""
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[path.name] = Asset(body, _TYPES[path.suffix], tag)
    return found
