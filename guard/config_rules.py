"""What the types of a configuration cannot say: settings that do not go together, or are given twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from guard.fleet.settings import problem as pool_problem
from guard.state.settings import problems as store_problems
from guard.yamldoc import dotted

if TYPE_CHECKING:
    from guard.config import Config, UpstreamSettings


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """What the types cannot say: setting and what is wrong with it."""
    yield from _upstream_problems(config.upstreams)
    yield from _loops(config)
    yield from _access_problems(config)
    for name, listen in (("listen", config.listen), ("admin", config.admin)):
        if not listen.host:
            # The system takes it for all addresses, and an empty variable is seldom meant so.
            yield f"{name}.host", "give an address; all of them as ::, all of IPv4 as 0.0.0.0"
    listen, admin = config.listen, config.admin
    if listen.port == admin.port != 0 and {listen.host, *_SAME_PLACE.get(listen.host, ())} & {
        admin.host,
        *_SAME_PLACE.get(admin.host, ()),
    }:
        yield "admin.port", f"{admin.port} is the client port already; give each a port of its own"
    found = pool_problem(config.pool)
    if found is not None:
        yield f"pool.{found[0]}", found[1]
    try:
        config.retry_budget.budget()
    except ValueError as error:
        yield "retry_budget.share", str(error)
    for where, wrong in store_problems(config.store) if config.store is not None else ():
        yield f"store.{where}", wrong
    if config.recording is not None and config.recording.prompts and config.recording.text == "redacted":
        # In it all words of a length are the same: a loop of the answer would be one that the prompt asks for.
        yield "recording.prompts", "of redacted prompts nothing is left to judge by; set text to scrambled or full"


def doubts(config: Config) -> Iterator[str]:
    """What may be meant and mostly is not, one sentence each."""
    for index, upstream in enumerate(config.upstreams):
        if urlsplit(upstream.url).path.rstrip("/").endswith("/v1"):
            where = dotted(["upstreams", index, "url"])
            yield f"{where} ends in /v1, as clients' paths begin: /v1/v1/... will be asked for; leave it out there"


def _upstream_problems(upstreams: Sequence[UpstreamSettings]) -> Iterator[tuple[str, str]]:
    seen: dict[str, int] = {}
    for index, upstream in enumerate(upstreams):
        problem = url_problem(upstream.url)
        if not problem and upstream.resolve is not None:
            problem = _resolve_problem(upstream)
        if problem:
            yield dotted(["upstreams", index, "url"]), problem
        name = upstream.name or upstream.url.rstrip("/")
        if name in seen:
            where = dotted(["upstreams", index, "name" if upstream.name else "url"])
            yield where, f"{name!r} is upstreams[{seen[name]}] already; give each replica once"
        seen[name] = index


#: By the address that is listened on, further names of the same place.
_SAME_PLACE = {
    "127.0.0.1": {"localhost"},
    "::1": {"localhost"},
    "localhost": {"127.0.0.1", "::1"},
    "0.0.0.0": {"127.0.0.1", "localhost"},  # noqa: S104
    "::": {"127.0.0.1", "::1", "localhost"},
}


def _loops(config: Config) -> Iterator[tuple[str, str]]:
    """Backends that are the guard itself: one request would go round in it until nothing is left."""
    for index, upstream in enumerate(config.upstreams):
        if url_problem(upstream.url):
            continue
        parts = urlsplit(upstream.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        for name, listen in (("listen", config.listen), ("admin", config.admin)):
            places = {listen.host, *_SAME_PLACE.get(listen.host, ())}
            if port == listen.port and parts.hostname in places and upstream.resolve is None:
                where = dotted(["upstreams", index, "url"])
                yield where, f"{upstream.url!r} is where the guard itself listens; change {name}.port, or the backend's"


def _access_problems(config: Config) -> Iterator[tuple[str, str]]:
    access = config.access
    for name in ("upstream_key", "admin_token"):
        if getattr(access, name) is not None and getattr(access, f"{name}_file") is not None:
            yield f"access.{name}", f"give it here or in {name}_file, not both"
    names = [key.name for key in access.keys]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield dotted(["access", "keys", index, "name"]), f"{name!r} is given twice"
    if not config.admin.loopback and access.admin_token is None and access.admin_token_file is None:
        yield (
            "admin.host",
            f"{config.admin.host} can be reached from elsewhere, and the admin port shows requests: "
            "set access.admin_token_file (or access.admin_token), or leave admin.host at 127.0.0.1",
        )
    if (config.upstream_tls.cert is None) != (config.upstream_tls.key is None):
        yield "upstream_tls", "a certificate and its key go together"


def _resolve_problem(upstream: UpstreamSettings) -> str:
    parts = urlsplit(upstream.url)
    if parts.scheme != "http":
        return "resolve works with http only: a certificate names the host, not its addresses"
    if upstream.resolve == "srv" and parts.port is not None:
        return "SRV records have the ports; leave the port out"
    return ""


_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


def url_problem(url: str) -> str:
    """What is wrong with an upstream's URL; empty when nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"{url!r} is not a URL: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or _BLANK.search(url):
        return f"{url!r} is not a base URL; write it like http://127.0.0.1:8080"
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        return f"{url!r}: no host can have this name: {error}"
    if parts.username is not None or parts.password is not None:
        # Not quoted: it would stand in logs.
        return "a base URL has no user and password; give the backends' key as access.upstream_key_file"
    if parts.query or parts.fragment:
        return f"{url!r}: a base URL has no query and no fragment"
    return ""
