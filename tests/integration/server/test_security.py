"""The client port against those who mean harm; deploy/SECURITY.md names a test for each of its items."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog
from yarl import URL

from guard.config import AccessSettings, ApiKey, Limits, TimeoutSettings
from guard.observe.log import configure
from guard.observe.recorder import RecorderSettings
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, Backend, backend
from tests.unit.core.transcript import BAD, DONE, chunk, policy

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
KEY = "sg-a-key-of-a-client"
ACCESS = AccessSettings(keys=[ApiKey(name="team-a", sha256=sha256(KEY.encode()).hexdigest())])
BEARER = {"Authorization": f"Bearer {KEY}"}


def good(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("Hello"), chunk("", finish="stop"), DONE]


def slow(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("Hello"), None]


async def raw(url: str, sent: bytes) -> bytes:
    """What a port answers to bytes that no HTTP client would send."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(65536), 10)
    writer.close()
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# Who may come.


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/models", "/props", "/"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"x-api-key": ""}, {"Authorization": KEY}])
async def test_without_a_key_nothing_reaches_a_backend(path: str, headers: dict[str, str]) -> None:
    async with (
        backend(good) as upstream,
        guarded(upstream.url, policy=policy(), access=ACCESS) as (running, client),
    ):
        async with client.post(running.url + path, json=BODY, headers=headers) as answer:
            body = await answer.json()
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert upstream.requests == []
        assert running.guard.gate.refused["unauthorized"] == 1
    if path == "/v1/messages":
        assert body["error"]["type"] == "authentication_error"
    else:
        assert body["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("headers", [BEARER, {"x-api-key": KEY}, {"Authorization": f"bearer  {KEY} "}])
async def test_a_key_opens_every_route_and_stays_with_the_guard(headers: dict[str, str]) -> None:
    async with (
        backend(good) as upstream,
        guarded(upstream.url, policy=policy(), access=ACCESS) as (running, client),
    ):
        for path in (CHAT, "/v1/embeddings"):
            async with client.post(running.url + path, json=BODY, headers=headers) as answer:
                assert answer.status == 200
                await answer.read()
        assert len(upstream.requests) == 2
        for request in upstream.requests:
            assert "authorization" not in request.headers
            assert "x-api-key" not in request.headers


async def test_a_websocket_needs_a_key_too() -> None:
    head = b"GET /v1/realtime HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with backend(good) as upstream, guarded(upstream.url, policy=policy(), access=ACCESS) as (running, _):
        assert status_of(await raw(running.url, head)) == 401


async def test_a_clients_key_goes_on_only_when_told_and_the_guards_own_replaces_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("own-key\n")
    forward = AccessSettings(keys=ACCESS.keys, forward=True)
    own = AccessSettings(upstream_key_file=str(file))
    for access, seen in ((forward, f"Bearer {KEY}"), (own, "Bearer own-key"), (AccessSettings(), f"Bearer {KEY}")):
        async with (
            backend(good) as upstream,
            guarded(upstream.url, policy=policy(), access=access) as (running, client),
        ):
            async with client.post(running.url + CHAT, json=BODY, headers=BEARER) as answer:
                await answer.read()
            assert upstream.requests[0].headers["authorization"] == seen


async def test_keys_are_read_again_and_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"old {sha256(b'old').hexdigest()}\n")

    async def status(key: str) -> int:
        async with client.post(running.url + CHAT, json=BODY, headers={"x-api-key": key}) as answer:
            return answer.status

    async def until(key: str, wanted: int) -> None:
        while await status(key) != wanted:
            await asyncio.sleep(0.05)

    async with (
        backend(good) as upstream,
        guarded(upstream.url, policy=policy(), access=AccessSettings(keys_file=str(file))) as (running, client),
    ):
        assert [await status("old"), await status("new")] == [200, 401]
        file.write_text(f"new {sha256(b'new').hexdigest()}\n")
        await asyncio.wait_for(until("new", 200), 10)
        assert await status("old") == 401
        file.write_text("new not-a-hash\n")
        await asyncio.sleep(1.3)
        assert await status("new") == 200


# How much may come.


async def test_requests_past_the_limit_are_turned_away_and_told_when_to_return() -> None:
    async with (
        backend(slow) as upstream,
        guarded(upstream.url, policy=policy(), limits=Limits(max_in_flight=2, retry_after=7)) as (running, client),
    ):
        inside = [await client.post(running.url + CHAT, json=BODY) for _ in range(2)]
        for path in (CHAT, "/v1/models"):
            async with client.post(running.url + path, json=BODY) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
                assert (await answer.json())["error"]["code"] == "overloaded"
        async with client.get(running.admin_url + "/metrics") as answer:
            assert 'guard_requests_refused_total{reason="overloaded"} 2.0' in await answer.text()
        inside.pop().close()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        async with client.post(running.url + CHAT, json=BODY) as answer:
            assert answer.status == 200
        inside.pop().close()


@pytest.mark.parametrize("path", [CHAT, "/v1/else"])
async def test_a_client_that_never_reads_holds_no_backend_for_ever(path: str) -> None:
    """More waits for it than all sockets on the way hold."""
    flood = [OK_SSE, *[chunk("word ", padding="." * 65_536)] * 400]
    async with (
        backend(lambda _: flood) as upstream,
        guarded(upstream.url, policy=policy(), timeouts=TimeoutSettings(unread=0.3)) as (running, _),
    ):
        url = urlsplit(running.url)
        _, writer = await asyncio.open_connection(url.hostname, url.port, limit=1024)
        body = json.dumps(BODY).encode()
        writer.write(f"POST {path} HTTP/1.1\r\nhost: g\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(20):
            while not running.guard.gate.inside:
                await asyncio.sleep(0.01)
            await running.guard.gate.empty()
        assert all(replica.in_flight == 0 for replica in running.guard.pool.upstreams)
        writer.close()


async def test_one_key_cannot_take_all_the_room() -> None:
    other = ApiKey(name="team-b", sha256=sha256(b"other").hexdigest())
    async with (
        backend(slow) as upstream,
        guarded(
            upstream.url,
            policy=policy(),
            limits=Limits(max_in_flight_per_key=1),
            access=AccessSettings(keys=[*ACCESS.keys, other]),
        ) as (running, client),
    ):
        inside = await client.post(running.url + CHAT, json=BODY, headers=BEARER)
        async with client.post(running.url + CHAT, json=BODY, headers=BEARER) as answer:
            assert answer.status == 429
            assert answer.headers["Retry-After"] == "1"
        async with client.post(running.url + CHAT, json=BODY, headers={"x-api-key": "other"}) as answer:
            assert answer.status == 200
        inside.close()


async def test_a_body_that_trickles_in_is_given_up() -> None:
    times = TimeoutSettings(request_body=0.3, drain=0.2)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{{"
    async with guarded("http://127.0.0.1:9", policy=policy(), timeouts=times) as (running, _):
        answer = await raw(running.url, head.encode())
    assert status_of(answer) == 408
    assert b"timeouts.request_body" in answer


async def test_headers_have_a_length_and_a_number() -> None:
    limits = Limits(max_header_bytes=2048)
    async with backend(good) as upstream, guarded(upstream.url, policy=policy(), limits=limits) as (running, _):
        for line in (b"X-A: " + b"a" * 4096 + b"\r\n", b"".join(b"X-%d: 1\r\n" % n for n in range(300))):
            answer = await raw(running.url, b"POST /v1/models HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n")
            assert status_of(answer) == 400
        assert status_of(await raw(running.url, b"GET /" + b"a" * 4096 + b" HTTP/1.1\r\nHost: h\r\n\r\n")) == 400
        assert upstream.requests == []


@pytest.mark.parametrize("opening", [b"[", b'{"messages":', b'{"model":"m","messages":[{"content":['])
async def test_a_body_nested_without_end_is_a_400(opening: bytes) -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, client):
        async with client.post(running.url + CHAT, data=opening * 100_000) as answer:
            assert answer.status == 400
        async with client.post(running.url + CHAT, json=BODY) as answer:
            assert answer.status == 200


async def test_a_compressed_body_is_not_unfolded_past_the_limit() -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    async with (
        backend(good) as upstream,
        guarded(upstream.url, policy=policy(), limits=Limits(max_request_bytes=1_000_000)) as (running, client),
    ):
        async with client.post(running.url + CHAT, data=bomb, headers={"Content-Encoding": "gzip"}) as answer:
            assert answer.status == 413
        assert upstream.requests == []


# Where requests go, and what comes back.


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/v1/models",
        "evil://127.0.0.1:{port}/v1/models",
        "@127.0.0.1:{port}/v1/models",
        ".127.0.0.1:{port}/v1/models",
        "127.0.0.1:{port}",
        "*",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT"])
async def test_no_request_chooses_its_own_backend(method: str, target: str) -> None:
    async with (
        backend(good) as upstream,
        backend(good) as other,
        guarded(upstream.url, policy=policy()) as (running, _),
    ):
        aimed = target.format(port=other.url.rsplit(":", 1)[1])
        answer = await raw(running.url, f"{method} {aimed} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert status_of(answer) in (400, 404)
        assert upstream.requests == other.requests == []


@pytest.mark.parametrize("path", ["//v1/chat/completions", "/v1/chat/completions/", "/v1//chat/%63ompletions"])
async def test_a_path_spelled_otherwise_is_guarded_all_the_same(path: str) -> None:
    asked = json.dumps(BODY).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(asked)}\r\n\r\n"
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, _):
        answer = await raw(running.url, head.encode() + asked)
        assert b"x-guard-policy" in answer
        assert upstream.requests[0].line == f"POST {path} HTTP/1.1"
        await running.settled()
        assert running.guard.records.latest(1)[0].route == CHAT
        assert running.guard.metrics.passthrough == 0


@pytest.mark.parametrize("path", ["/v1/../v1/chat/completions", "/%2e%2e/other/v1/models", "/v1/models/."])
async def test_a_path_that_climbs_reaches_no_backend(path: str) -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, _):
        answer = await raw(running.url, f"POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert status_of(answer) == 400
        assert upstream.requests == []


async def test_bodies_of_many_requests_do_not_fill_the_memory() -> None:
    asked = json.dumps({**BODY, "messages": [{"role": "user", "content": "x" * 60_000}]}).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(asked), 10_000):
            yield asked[at : at + 10_000]

    async with (
        backend(slow) as upstream,
        guarded(upstream.url, policy=policy(), limits=Limits(max_held_bytes=100_000, retry_after=7)) as (running, c),
    ):
        async with c.post(running.url + CHAT, data=asked) as first:
            assert first.status == 200
            for body in (asked, in_pieces(), gzip.compress(asked)):
                coding = {"Content-Encoding": "gzip"} if isinstance(body, bytes) and len(body) < 1000 else {}
                async with c.post(running.url + CHAT, data=body, headers=coding) as answer:
                    assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
                    assert (await answer.json())["error"]["code"] == "overloaded"
            async with c.post(running.url + CHAT, json=BODY) as small:
                assert small.status == 200
        async with asyncio.timeout(10):
            await running.guard.gate.empty()
        assert running.guard.gate.held == 0
        assert running.guard.gate.refused["overloaded"] == 3


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_past_the_limit_is_refused_before_it_is_read(told: bool) -> None:
    length = b"Content-Length: 9999999999" if told else b"Transfer-Encoding: chunked"
    some = b"" if told else b"400\r\n" + b"x" * 1024 + b"\r\n"
    limits = Limits(max_request_bytes=1000)
    async with backend(good) as upstream, guarded(upstream.url, policy=policy(), limits=limits) as (running, _):
        answer = await raw(
            running.url, b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n" + length + b"\r\n\r\n" + some
        )
        assert status_of(answer) == 413
        assert upstream.requests == []


async def test_a_body_made_to_be_slow_to_read_is_a_413() -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, c):
        async with c.post(running.url + CHAT, data=b'{"x":[' + b"[]," * 1_000_000 + b"0]}") as answer:
            assert answer.status == 413
        assert upstream.requests == []


async def test_clients_do_not_reach_the_routes_that_manage_a_backend() -> None:
    access = AccessSettings(other_paths=["/v1/models"])
    async with (
        backend(good) as upstream,
        guarded(upstream.url, policy=policy(), access=access) as (running, c),
    ):
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        for path in ("/flush_cache", "/abort_request", "/v1/load_lora_adapter", "/v1/models%2f..%2fflush_cache", "//x"):
            for method, headers in (("POST", {}), ("GET", upgrade)):
                async with c.request(method, URL(running.url + path, encoded=True), headers=headers) as answer:
                    assert answer.status in (400, 404)
        assert upstream.requests == []
        for path in ("/v1/models/m", CHAT):
            async with c.post(running.url + path, json=BODY) as answer:
                assert answer.status == 200
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions/", "/tokenize/"])
async def test_a_backend_does_not_lead_clients_past_the_guard(path: str) -> None:
    def to_itself(_: int) -> list[bytes | float | None]:
        at = upstream.url.encode() + path.rstrip("/").encode()
        return [b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + at + b"\r\nContent-Length: 0\r\n\r\n"]

    async with (
        backend(to_itself) as upstream,
        guarded(upstream.url, policy=policy()) as (running, c),
        c.post(running.url + path, json=BODY, allow_redirects=False) as answer,
    ):
        assert answer.status == 307
        assert answer.headers["Location"] == path.rstrip("/")


async def test_headers_do_not_choose_the_backend_either() -> None:
    async with (
        backend(good) as upstream,
        backend(good) as other,
        guarded(upstream.url, policy=policy()) as (running, c),
    ):
        where = other.url.removeprefix("http://")
        headers = {"Host": where, "X-Forwarded-Host": where, "Forwarded": f"host={where}", "X-Original-URL": other.url}
        async with c.post(running.url + CHAT, json=BODY, headers=headers) as answer:
            assert answer.status == 200
        assert len(upstream.requests) == 1
        assert upstream.requests[0].headers["host"] == upstream.url.removeprefix("http://")
        assert other.requests == []


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
async def test_redirects_are_not_followed(path: str) -> None:
    def away(_: int) -> list[bytes | float | None]:
        return [
            b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + other.url.encode() + b"/\r\nContent-Length: 0\r\n\r\n"
        ]

    async with (
        backend(good) as other,
        backend(away) as upstream,
        guarded(upstream.url, policy=policy()) as (running, c),
    ):
        async with c.post(running.url + path, json=BODY, allow_redirects=False) as answer:
            assert answer.status == 307
        assert other.requests == []


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Content-Length: +5\r\n",
    ],
)
async def test_two_readings_of_where_a_request_ends_are_refused(framing: bytes) -> None:
    smuggled = b"0\r\n\r\nPOST /admin HTTP/1.1\r\nHost: h\r\n\r\n"
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, _):
        answer = await raw(running.url, b"POST /v1/models HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n" + smuggled)
        assert status_of(answer) == 400
        assert [request.line for request in upstream.requests if "/admin" in request.line] == []


async def test_a_client_cannot_write_headers_of_the_answer_through_its_id_or_path() -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, client):
        for odd in ("a b", "a;b", "x" * 200, "é"):
            async with client.post(running.url + CHAT, json=BODY, headers={"X-Request-Id": odd}) as answer:
                assert answer.headers["x-request-id"] != odd
        async with client.get(running.url + "/v1/%0d%0aX-Evil:%201") as answer:
            assert "X-Evil" not in answer.headers
        head = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nX-Request-Id: a\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n"
        assert status_of(await raw(running.url, head.encode())) == 400


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
@pytest.mark.parametrize("line", [b"X-A: a\rSet-Cookie: x=1", b"X-A: a\x00b", b"X A: b", b"X-A\r\n: b"])
async def test_a_backend_that_smuggles_headers_gets_nothing_through(path: str, line: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    async with (
        backend(lambda _: [head]) as upstream,
        guarded(upstream.url, policy=policy(attempts=1)) as (running, client),
        client.post(running.url + path, json=BODY) as answer,
    ):
        assert answer.status == 502
        assert "Set-Cookie" not in answer.headers


# What is told.

CANARIES = ("canary-prompt", "canary-answer", "canary-client-key", "canary-own-key", "canary-admin", "canary-header")


def spoken(number: int) -> list[bytes | float | None]:
    """Every way in which an attempt ends, with a canary in all that a backend says."""
    return {
        1: [OK_SSE, chunk("canary-answer "), chunk(BAD + "canary-answer"), None],
        2: [OK_SSE, chunk("canary-answer"), chunk("", finish="stop"), DONE],
        3: [OK_SSE, chunk("canary-answer"), b'data: {"error": {"message": "canary-answer"}}\n\n'],
        4: [OK_SSE, b"data: canary-answer {\n\n"],
        5: [b"HTTP/1.1 500 canary-answer\r\nContent-Length: 13\r\nConnection: close\r\n\r\ncanary-answer"],
        6: [b"canary-answer\r\n\r\n"],
    }[(number - 1) % 6 + 1]


async def ask_all(upstream: Backend, tmp_path: Path) -> str:
    """Metrics and records after every kind of ending; what was logged is on standard error."""
    access = AccessSettings(
        keys=[ApiKey(name="team-a", sha256=sha256(b"canary-client-key").hexdigest())],
        upstream_key="canary-own-key",
        admin_token="canary-admin",
    )
    recording = RecorderSettings(folder=str(tmp_path), healthy=1.0)
    headers = {"Authorization": "Bearer canary-client-key", "X-Other": "canary-header"}
    body = {**BODY, "messages": [{"role": "user", "content": "canary-prompt"}], "user": "canary-prompt"}
    told = ""
    async with guarded(upstream.url, policy=policy(attempts=1), access=access, recording=recording) as (
        running,
        client,
    ):
        for stream in (True, False):
            for _ in range(6):
                async with client.post(running.url + CHAT, json={**body, "stream": stream}, headers=headers) as answer:
                    await answer.read()
        async with client.post(running.url + CHAT, data=b"canary-prompt", headers=headers) as answer:
            assert answer.status == 400
        token = {"Authorization": "Bearer canary-admin"}
        for path in ("/metrics", "/guard/requests", "/guard/policies", "/guard/baselines"):
            async with client.get(running.admin_url + path, headers=token) as answer:
                assert answer.status == 200
                told += await answer.text()
        await running.settled()
        for record in list(running.guard.records.latest(20)):
            async with client.get(f"{running.admin_url}/guard/requests/{record.request_id}", headers=token) as answer:
                told += await answer.text()
    return told


async def test_no_prompt_no_answer_and_no_key_is_logged_counted_or_recorded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    configure("debug")
    try:
        async with backend(spoken) as upstream:
            told = await ask_all(upstream, tmp_path)
    finally:
        structlog.reset_defaults()
    logged = capfd.readouterr().err
    lines = [json.loads(line) for line in logged.splitlines()]
    assert sum(line["event"] == "exchange" for line in lines) == 12
    assert {line["client"] for line in lines if line["event"] == "exchange"} == {"team-a"}
    recorded = "".join(path.read_text() for path in tmp_path.iterdir())
    assert recorded
    for canary in CANARIES:
        assert canary not in logged, canary
        assert canary not in recorded, canary
        assert canary not in told, canary


async def test_an_error_of_the_guard_itself_shows_no_insides(monkeypatch: pytest.MonkeyPatch) -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, client):

        def broken(*_: object) -> None:
            raise RuntimeError("insides")

        monkeypatch.setattr(running.guard.policies, "choose", broken)
        async with client.post(running.url + CHAT, json=BODY) as answer:
            assert answer.status == 500
            assert "insides" not in await answer.text()
