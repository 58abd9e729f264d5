"""A page of another origin may use the guard where the backend lets it, keys or not; a preflight opens nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from aiohttp import web
from multidict import CIMultiDict

from guard.config import AccessSettings
from guard.server.preflight import said
from tests.integration.server.conftest import QUIET, guarded
from tests.integration.server.test_security import ACCESS, BEARER, BODY, CHAT
from tests.unit.core.transcript import DONE, chunk, policy

PAGE = "https://app.example"
ASKED = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@dataclass
class Seen:
    """What reached the backend."""

    url: str
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextlib.asynccontextmanager
async def engine() -> AsyncIterator[Seen]:
    """A backend that lets the pages of one origin in, and answers preflights before all else, as engines do."""
    allowed = {"Access-Control-Allow-Origin": PAGE, "Vary": "Origin"}

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        seen.requests.append((request.method, request.path, headers))
        if request.method == "OPTIONS":
            return web.Response(headers={**allowed, "Access-Control-Allow-Headers": "authorization, content-type"})
        body = chunk("Hello", finish="stop") + DONE
        return web.Response(body=body, headers={**allowed, "Content-Type": "text/event-stream"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    seen = Seen(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield seen
    finally:
        await runner.cleanup()


async def test_a_page_asks_without_a_key_and_then_with_one() -> None:
    async with (
        engine() as upstream,
        guarded(upstream.url, policy=policy(), access=ACCESS, pool=QUIET) as (running, client),
    ):
        async with client.options(running.url + CHAT, headers=ASKED) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
        for body in (BODY, {**BODY, "stream": False}):
            async with client.post(running.url + CHAT, json=body, headers={**BEARER, "Origin": PAGE}) as answer:
                assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
                assert "Hello" in await answer.text()
        assert [(method, path) for method, path, _ in upstream.requests] == [
            ("OPTIONS", CHAT),
            ("POST", CHAT),
            ("POST", CHAT),
        ]
        async with client.post(running.url + CHAT, json=BODY, headers={"Origin": PAGE}) as answer:
            assert answer.status == 401


async def test_only_what_belongs_to_a_preflight_goes_on_without_a_key() -> None:
    more = {"Cookie": "a=b", "X-HTTP-Method-Override": "DELETE", "Authorization": "Bearer wrong", "x-api-key": "wrong"}
    async with (
        engine() as upstream,
        guarded(upstream.url, policy=policy(), access=ACCESS, pool=QUIET) as (running, client),
    ):
        async with client.options(running.url + "/v1/models", headers=ASKED | more) as answer:
            assert answer.status == 200
        ((method, _, headers),) = upstream.requests
        assert method == "OPTIONS"
        assert headers["origin"] == PAGE
        assert headers["access-control-request-headers"] == ASKED["Access-Control-Request-Headers"]
        assert not {name.lower() for name in more} & headers.keys()
        assert running.guard.gate.inside == 0


def without(name: str) -> dict[str, str]:
    return {other: value for other, value in ASKED.items() if other != name}


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("OPTIONS", without("Origin"), None),
        ("OPTIONS", without("Access-Control-Request-Method"), None),
        ("OPTIONS", {**ASKED, "Access-Control-Request-Method": ""}, None),
        ("OPTIONS", ASKED, b"a body"),
        ("GET", ASKED, None),
        ("POST", ASKED, b"{}"),
        ("HEAD", ASKED, None),
    ],
)
async def test_anything_else_needs_its_key(method: str, headers: dict[str, str], body: bytes | None) -> None:
    async with (
        engine() as upstream,
        guarded(upstream.url, policy=policy(), access=ACCESS, pool=QUIET) as (running, client),
    ):
        async with client.request(method, running.url + CHAT, headers=headers, data=body) as answer:
            assert answer.status == 401
        assert upstream.requests == []


@pytest.mark.parametrize("keys", [True, False])
async def test_a_preflight_is_offered_where_what_it_asks_for_is(keys: bool) -> None:
    access = msgspec.structs.replace(ACCESS if keys else AccessSettings(), other_paths=["/v1/models"])
    async with (
        engine() as upstream,
        guarded(upstream.url, policy=policy(), access=access, pool=QUIET) as (running, client),
    ):

        async def status(path: str, method: str) -> int:
            asked = {**ASKED, "Access-Control-Request-Method": method}
            async with client.options(running.url + path, headers=asked) as answer:
                return answer.status

        assert await status(CHAT, "POST") == 200
        assert await status("/v1//chat/completions/", "POST") == 200
        assert await status("/v1/models", "GET") == 200
        assert await status(CHAT, "GET") == 404
        assert await status("/sleep", "POST") == 404
        assert len(upstream.requests) == 3


def test_a_preflight_that_goes_round_is_still_known() -> None:
    headers = CIMultiDict([("Via", "1.1 a"), ("Via", "1.1 b"), ("Origin", PAGE), ("X-Mine", "1")])
    assert list(said(headers).items()) == [("Via", "1.1 a"), ("Via", "1.1 b"), ("Origin", PAGE)]
