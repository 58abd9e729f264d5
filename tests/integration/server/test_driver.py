"""The guarded routes over real sockets, with a backend that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Callable

import aiohttp
import msgspec
import pytest

from guard.config import AccessSettings, Limits, TimeoutSettings
from guard.core.events import AbortAttempt
from guard.fleet.settings import HealthSettings, PoolSettings, TransportSettings
from guard.server.driver import Driver
from guard.server.outlet import ClientLeft, Outlet
from guard.server.shared import LocalShared
from guard.types import Action
from tests.integration.server.conftest import QUIET, guarded
from tests.integration.server.scripted import CHUNKED_SSE, OK_SSE, Backend, backend, chunked
from tests.unit.core.transcript import BAD, DONE, FULL, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
END = chunk("", finish="stop") + DONE
NO_CONTENT = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def text_of(body: str) -> str:
    out = ""
    for line in body.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:]).get("choices", []):
                out += choice["delta"].get("content") or ""
    return out


def error_of(body: str) -> dict[str, str]:
    for line in body.splitlines():
        if line.startswith("data: {") and "error" in json.loads(line[6:]):
            return json.loads(line[6:])["error"]
    return json.loads(body)["error"]


@contextlib.asynccontextmanager
async def two(
    first: list[bytes | float | None], later: list[bytes | float | None]
) -> AsyncIterator[tuple[Backend, Backend]]:
    """Two replicas; whichever is asked first plays `first`, all else is answered by `later`."""
    asked = iter([first])
    async with (
        backend(lambda _: next(asked, later)) as one,
        backend(lambda _: next(asked, later)) as other,
    ):
        yield one, other


async def test_a_bad_stream_is_aborted_and_the_next_attempt_reaches_the_client() -> None:
    def script(n: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk(BAD), None] if n == 1 else [OK_SSE, chunk("Fine"), END]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy(hold=FULL)) as (running, client):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            body = await response.text()
        assert response.status == 200
        assert text_of(body) == "Fine"
        assert ": guard {" in body
        assert body.rstrip().endswith("data: [DONE]")
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        assert upstream.closed_by_peer == [1]
        assert json.loads(upstream.requests[1].body)["cache_salt"].startswith("guard-")
        assert running.guard.metrics.aborts_sent == 1


async def test_the_client_leaving_aborts_the_backend_once_within_a_second() -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk("One "), None]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            await response.content.readany()
            response.close()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        assert upstream.closed_by_peer == [1]
        await asyncio.sleep(0.05)
        assert running.guard.metrics.aborts_sent == 1
        assert running.guard.metrics.in_flight == 0
        assert [u.in_flight for u in running.guard.pool.upstreams] == [0]


async def test_the_client_leaving_before_the_backend_answers_aborts_too() -> None:
    async with (
        backend(lambda _: [None]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.post(running.url + "/v1/chat/completions", json=CHAT)
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        assert upstream.closed_by_peer == [1]


async def test_a_backend_that_is_down_is_a_502_that_names_it() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            error = error_of(await response.text())
        assert response.status == 502
        assert error["code"] == "upstream_connect"
        assert error["message"] == "connect: cannot reach the backend: Connection refused"


async def test_a_silent_backend_is_a_504() -> None:
    timeouts = TimeoutSettings(idle=0.2, drain=0.2)
    async with (
        backend(lambda _: [None]) as upstream,
        guarded(upstream.url, policy=policy(attempts=1), timeouts=timeouts) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            error = error_of(await response.text())
        assert response.status == 504
        assert error["code"] == "upstream_timeout"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([OK_SSE, chunk("Half ")], "upstream_truncated"),
        ([OK_SSE, chunk("Half "), b'data: {"choices": [{"del'], "upstream_truncated"),
        ([CHUNKED_SSE, chunked(chunk("Half "))], "upstream_reset"),
        ([CHUNKED_SSE, chunked(chunk("Half ")), 0.05, b"zz\r\n"], "upstream_reset"),
        ([OK_SSE, chunk("Half "), b"data: not json\n\n", None], "upstream_protocol"),
        ([OK_SSE, chunk("Half "), b'data: {"choices": [{"text": "\xff\xfe"}]}\n\n', None], "upstream_protocol"),
        ([OK_SSE, chunk("Half "), 30.0], "upstream_timeout"),
    ],
)
async def test_a_stream_that_breaks_ends_with_an_error_and_never_looks_complete(
    script: list[bytes | float | None], code: str
) -> None:
    timeouts = TimeoutSettings(idle=0.3, drain=0.2)
    async with (
        backend(lambda _: script) as upstream,
        guarded(upstream.url, policy=policy(attempts=1), timeouts=timeouts) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            body = await response.text()
        assert text_of(body) == "Half "
        assert error_of(body)["code"] == code
        assert "[DONE]" not in body


async def test_after_its_own_error_event_a_backend_ends_the_stream_itself() -> None:
    own = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    scripts: list[list[bytes | float | None]] = [[], [OK_SSE, chunk("One "), own, 0.02, DONE], []]
    pool = msgspec.structs.replace(QUIET, transport=TransportSettings(failures=2))
    async with (
        backend(lambda n: scripts[n - 1]) as upstream,
        guarded(upstream.url, policy=policy(attempts=1), pool=pool) as (running, client),
    ):
        bodies = []
        for _ in scripts:
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                bodies.append(await response.read())
        assert bodies[1].endswith(own + DONE)
        assert upstream.closed_by_peer == []
        assert running.guard.metrics.aborts_sent == 0
        # It speaks for the replica no more than an abort did: the failures around it are two in a row.
        assert running.guard.pool.ejections == {"transport": 1}


async def test_the_client_leaving_at_the_backends_own_error_aborts_once() -> None:
    own = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    async with (
        backend(lambda _: [OK_SSE, chunk("One "), own, None]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            async for line in response.content:
                if b"error" in line:
                    break
            response.close()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        assert upstream.closed_by_peer == [1]
        await running.settled()
        (record,) = running.guard.records.latest(1)
        assert record.outcome.value == "upstream_error"


class Defect:
    """A listener with a bug."""

    active = True

    def observed(self, *_: object) -> None:
        raise ZeroDivisionError

    def ended(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


async def test_a_defect_of_the_guard_breaks_the_stream_off_aborts_once_and_is_not_told_as_healthy() -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk("one"), chunk("two"), None]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        running.guard.live = Defect()  # type: ignore[assignment]
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            assert "[DONE]" not in await response.text()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        await running.settled()
        (record,) = running.guard.records.latest(1)
        assert (record.outcome, record.attempts[0].fault) == ("upstream_error", "guard")
        assert record.plan_reason == "the guard itself failed: ZeroDivisionError"
        assert running.guard.metrics.aborts_sent == 1
        assert running.guard.gate.inside == 0


async def test_an_event_past_the_cap_is_refused_without_holding_it() -> None:
    def endless(_: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk("Before "), b"data: ", *[b"x" * 65536] * 1600, b"\n\n", END]

    async with (
        backend(endless) as upstream,
        guarded(upstream.url, policy=policy(attempts=1), limits=Limits(max_event_bytes=1024 * 1024)) as (
            running,
            client,
        ),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            body = await response.text()
        error = error_of(body)
        assert text_of(body) == "Before "
        assert error["code"] == "upstream_protocol"
        assert "1048576" in error["message"]


async def test_an_event_below_the_cap_passes_whatever_its_size() -> None:
    text = "word " * 200_000
    async with (
        backend(lambda _: [OK_SSE, chunk(text), END]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json={**CHAT, "stream": False}) as response:
            answer = await response.json()
        assert answer["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"[]", 400, "JSON object"),
        (b'{"stream": "perhaps"}', 400, "stream"),
        (b'{"a": "\xff"}', 400, "UTF-8"),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong(body: bytes, status: int, says: str) -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        async with client.post(running.url + "/v1/chat/completions", data=body) as response:
            error = error_of(await response.text())
        assert response.status == status
        assert says in error["message"]


async def test_a_request_past_the_limit_is_413() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy(), limits=Limits(max_request_bytes=2048)) as (
        running,
        client,
    ):
        async with client.post(running.url + "/v1/chat/completions", data=b" " * 5000) as response:
            error = error_of(await response.text())
        assert response.status == 413
        assert "max_request_bytes" in error["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_byte_order_mark_before_a_request_is_taken_off_as_the_engines_do(stream: bool) -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk("Fine"), END]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        marked = BOM_UTF8 + json.dumps({**CHAT, "stream": stream}).encode()
        async with client.post(running.url + "/v1/chat/completions", data=marked) as response:
            assert response.status == 200
            assert "Fine" in await response.text()
    assert json.loads(upstream.requests[0].body.decode())["messages"] == CHAT["messages"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_request_goes_on_unfolded(coding: str) -> None:
    plain = json.dumps(CHAT).encode()
    packed = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)
    async with (
        backend(lambda _: [OK_SSE, chunk("Fine"), END]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        headers = {"Content-Encoding": coding}
        async with client.post(running.url + "/v1/chat/completions", data=packed, headers=headers) as response:
            assert text_of(await response.text()) == "Fine"
    (sent,) = upstream.requests
    assert json.loads(sent.body)["messages"] == CHAT["messages"]
    assert "content-encoding" not in sent.headers
    assert sent.headers["content-length"] == str(len(sent.body))


async def test_an_unknown_coding_is_415_and_names_those_accepted() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, client):
        headers = {"Content-Encoding": "zstd"}
        async with client.post(running.url + "/v1/chat/completions", data=b"x", headers=headers) as response:
            assert response.status == 415
            assert response.headers["Accept-Encoding"] == "gzip, deflate"
            assert "gzip, deflate" in error_of(await response.text())["message"]


async def test_the_backends_refusal_passes_with_its_status_and_body() -> None:
    refusal = b'HTTP/1.1 422 Unprocessable\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"no": 1}'
    async with backend(lambda _: [refusal]) as upstream, guarded(upstream.url, policy=policy()) as (running, client):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            assert response.status == 422
            assert await response.text() == '{"no": 1}'
        assert len(upstream.requests) == 1


async def test_request_ids_are_kept_or_made_and_sent_both_ways() -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk("a"), END]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        url = running.url + "/v1/chat/completions"
        async with client.post(url, json=CHAT, headers={"X-Request-Id": "mine-1"}) as response:
            assert response.headers["x-request-id"] == "mine-1"
            assert response.headers["x-guard-policy"] == "test"
            await response.read()
        async with client.post(url, json=CHAT, headers={"X-Request-Id": 'no "quotes"'}) as response:
            assert response.headers["x-request-id"] != 'no "quotes"'
            await response.read()
        assert upstream.requests[0].headers["x-request-id"] == "mine-1"


async def test_per_step_acceptance_is_streamed_on_when_asked() -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk("a"), END]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        url = running.url + "/v1/chat/completions"
        async with client.post(url, json=CHAT, headers={"x-guard-stream": "acceptance"}) as response:
            body = await response.text()
        first = json.loads(body.splitlines()[0][6:])
        assert first["guard"] == {"accepted": [2], "drafted": [2]}
        async with client.post(url, json=CHAT) as response:
            assert '"guard"' not in await response.text()


async def test_a_retry_goes_to_another_replica() -> None:
    async with (
        two([OK_SSE, chunk(BAD), None], [OK_SSE, chunk("Fine"), END]) as (one, other),
        guarded(one.url, other.url, policy=policy(hold=FULL)) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            assert text_of(await response.text()) == "Fine"
        assert (len(one.requests), len(other.requests)) == (1, 1)


async def test_a_replica_that_dies_in_the_middle_is_replaced_and_the_text_goes_on() -> None:
    async with (
        two([CHUNKED_SSE, chunked(chunk("One ")), chunked(chunk("two "))], [OK_SSE, chunk("three"), END]) as (
            one,
            other,
        ),
        guarded(one.url, other.url, policy=policy()) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            body = await response.text()
        assert text_of(body) == "One two three"
        assert body.rstrip().endswith("data: [DONE]")
        assert (len(one.requests), len(other.requests)) == (1, 1)
        resumed = json.loads(max(one.requests + other.requests, key=lambda r: len(r.body)).body)
        assert resumed["messages"][-1] == {"role": "assistant", "content": "One two "}
        assert "cache_salt" not in resumed
        assert sorted(u.replica.standing(running.guard.clock.now()) for u in running.guard.pool.upstreams) == [
            "busy",
            "ready",
        ]
        await running.settled()
        record = running.guard.records.latest(1)[0]
        assert [a.fault for a in record.attempts] == ["reset", ""]


@pytest.mark.parametrize("able", ["another", "the same", "none"])
async def test_no_text_is_continued_by_an_engine_that_would_begin_a_new_turn(able: str) -> None:
    """What an engine that cannot continue says would be put behind the text, as if it belonged there."""
    asked: list[int] = []

    def script(me: int) -> Callable[[int], list[bytes | float | None]]:
        def play(_: int) -> list[bytes | float | None]:
            asked.append(me)
            if len(asked) > 1:
                return [OK_SSE, chunk("three"), END]
            others = [u for u in running.guard.pool.upstreams if u.url != urls[me] or able == "none"]
            for other in others[able == "another" :]:
                other.replica.engine = "sglang"
            return [CHUNKED_SSE, chunked(chunk("One ")), chunked(chunk("two "))]

        return play

    async with contextlib.AsyncExitStack() as stack:
        urls = [(await stack.enter_async_context(backend(script(me)))).url for me in range(3)]
        running, client = await stack.enter_async_context(guarded(*urls, policy=policy()))
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            body = await response.text()
        if able == "none":
            assert text_of(body) == "One two "
            assert len(asked) == 1
            assert "no replica can go on with the text" in error_of(body)["message"]
            assert "[DONE]" not in body
        else:
            assert text_of(body) == "One two three"
            assert (asked[0] == asked[1]) == (able == "the same")
        assert not any(u.in_flight for u in running.guard.pool.upstreams)
        assert all(u.replica.standing(running.guard.clock.now()) == "ready" for u in running.guard.pool.upstreams
                   if u.url != urls[asked[0]])  # fmt: skip


async def test_a_busy_replica_is_left_for_another_and_rests() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with (
        two([busy], [OK_SSE, chunk("Fine"), END]) as (one, other),
        guarded(one.url, other.url, policy=policy()) as (running, client),
    ):
        for _ in range(3):
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                assert text_of(await response.text()) == "Fine"
        assert sorted([len(one.requests), len(other.requests)]) == [1, 3]


async def test_a_retry_that_the_fleet_refuses_ends_honestly_and_one_allowed_is_given_back() -> None:
    class Budget(LocalShared):
        left = 1

        async def admit_retry(self, active: int) -> bool:
            assert active == 1
            self.left -= 1
            return self.left >= 0 and await super().admit_retry(active)

    async with (
        backend(lambda _: [OK_SSE, chunk("One "), chunk(BAD), None]) as upstream,
        guarded(upstream.url, policy=policy(hold=FULL)) as (running, client),
    ):
        pool = running.guard.pool
        pool.shared = budget = Budget(60.0)
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            body = await response.text()
        assert len(upstream.requests) == 2
        assert error_of(body)["code"] == "guard_exhausted"
        assert text_of(body) == "One "
        assert (budget.retries, pool.retries_refused) == (0, 1)


async def test_a_slow_client_does_not_lose_anything() -> None:
    words = [chunk(f"w{i} ") for i in range(2000)]
    async with (
        backend(lambda _: [OK_SSE, *words, END]) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            await asyncio.sleep(0.3)
            body = await response.text()
        assert text_of(body) == "".join(f"w{i} " for i in range(2000))


async def test_connections_to_the_backend_are_used_again() -> None:
    answer = chunk("a") + END
    whole = CHUNKED_SSE + chunked(answer) + b"0\r\n\r\n"
    served = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next(int(h.split(":")[1]) for h in head.split("\r\n") if h.startswith("content-length"))
                await reader.readexactly(length)
                writer.write(whole)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with guarded(f"http://127.0.0.1:{port}", policy=policy()) as (running, client):
        for _ in range(5):
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                await response.read()
    server.close()
    assert served == 1
    assert isinstance(client, aiohttp.ClientSession)


async def test_sglang_is_told_to_abort_once_by_an_id_of_the_guards_own() -> None:
    async with (
        backend(lambda n: [OK_SSE, chunk("One "), None] if n == 1 else [NO_CONTENT]) as upstream,
        guarded(upstream.url, policy=policy(), engine="sglang") as (running, client),
    ):
        url = running.url + "/v1/chat/completions"
        async with client.post(url, json=CHAT, headers={"X-Request-Id": "client-chosen"}) as response:
            await response.content.readany()
            response.close()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        while len(upstream.requests) < 2:
            await asyncio.sleep(0.01)
    rid = json.loads(upstream.requests[0].body)["rid"]
    assert len(rid) == 34
    assert [r.line.split()[1] for r in upstream.requests] == ["/v1/chat/completions", "/abort_request"]
    assert json.loads(upstream.requests[1].body) == {"rid": rid}


def echoing(path: str, seen: list[str], *, whole: bool) -> Callable[[bytes], list[bytes | float | None]]:
    """SGLang, which tells a request's id in all it says, and refuses one that it has seen."""
    cut = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"

    def said(rid: str, text: str, end: str | None) -> dict[str, object]:
        if path == "/generate":
            reason = {"type": end} if end else None
            return {"text": text, "output_ids": [1], "meta_info": {"id": rid, "finish_reason": reason}}
        part = {"index": 0, "finish_reason": end}
        kind = {"message": {"content": text}} if whole else {"delta": {"role": "assistant", "content": text}}
        return {"id": rid, "object": "chat.completion", "choices": [{**part, **kind}]}

    def answer(body: bytes) -> list[bytes | float | None]:
        rid = json.loads(body)["rid"]
        if rid in seen:
            return [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"]
        seen.append(rid)
        if len(seen) == 1:
            return [cut] if whole else [OK_SSE]  # lost before it said anything
        if whole:
            data = json.dumps(said(rid, "fine", "stop")).encode()
            return [
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data),
                data,
            ]
        events = b"".join(f"data: {json.dumps(said(rid, 'fine', end))}\n\n".encode() for end in (None, "stop"))
        return [OK_SSE, events[:30], 0.05, events[30:70], 0.05, events[70:], DONE]

    return answer


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/generate"])
@pytest.mark.parametrize("kind", ["streamed", "put together", "whole"])
async def test_a_retry_on_sglang_has_an_id_of_its_own_of_which_the_client_sees_nothing(path: str, kind: str) -> None:
    """SGLang refuses an id that it may still be at work on."""
    given = 'cli "é" ent'
    asked: dict[str, object] = {"rid": given, "stream": kind == "streamed"}
    asked |= {"text": "hi"} if path == "/generate" else {"messages": CHAT["messages"], "model": "m"}
    if kind == "whole":  # what only a whole answer has
        asked |= {"return_hidden_states": True} if path == "/generate" else {"prompt_logprobs": 1}
    seen: list[str] = []
    answer = echoing(path, seen, whole=kind == "whole")
    upstream: Backend
    async with (
        backend(lambda _: answer(upstream.requests[-1].body)) as upstream,
        guarded(upstream.url, policy=policy(), engine="sglang") as (running, client),
        client.post(running.url + path, json=asked) as response,
    ):
        assert response.status == 200
        body = await response.text()
    first, second = seen
    assert first == given
    assert second.startswith(given)
    assert second != given
    assert second.removeprefix(given) not in body
    told = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    told = told or [json.loads(body)]
    ids = {one["meta_info"]["id"] if path == "/generate" else one["id"] for one in told}
    assert ids == {given}
    assert "fine" in body


@pytest.mark.parametrize(
    ("access", "told"),
    [
        ({}, "Bearer of-the-client"),
        ({"upstream_key": "of-the-guard"}, "Bearer of-the-guard"),
        ({"keys": [{"name": "c", "sha256": hashlib.sha256(b"of-the-client").hexdigest()}]}, None),
    ],
    ids=["the client's", "the guard's own", "none"],
)
async def test_sglang_is_told_to_abort_by_the_key_that_the_attempt_went_with(
    access: dict[str, object], told: str | None
) -> None:
    """Without it a server with a key turns the abort away, and what was given up runs on."""
    async with (
        backend(lambda n: [OK_SSE, chunk("One "), None] if n == 1 else [NO_CONTENT]) as upstream,
        guarded(upstream.url, policy=policy(), engine="sglang", access=msgspec.convert(access, AccessSettings)) as (
            running,
            client,
        ),
    ):
        headers = {"Authorization": "Bearer of-the-client"}
        async with client.post(running.url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
            await response.content.readany()
            response.close()
        async with asyncio.timeout(10):
            while len(upstream.requests) < 2:
                await asyncio.sleep(0.01)
    assert [request.headers.get("authorization") for request in upstream.requests] == [told, told]


@pytest.mark.parametrize("said", [[], [OK_SSE, chunk("One ")]], ids=["before its head", "in its stream"])
async def test_sglang_is_told_to_abort_what_it_was_silent_on_for_too_long(said: list[bytes | float | None]) -> None:
    async with (
        backend(lambda n: [*said, None] if n == 1 else [NO_CONTENT]) as upstream,
        guarded(
            upstream.url, policy=policy(attempts=1), engine="sglang", timeouts=TimeoutSettings(idle=0.2, drain=0.2)
        ) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            assert error_of(await response.text())["code"] == "upstream_timeout"
        async with asyncio.timeout(10):
            while len(upstream.requests) < 2:
                await asyncio.sleep(0.01)
    asked, told = upstream.requests
    assert told.line.split()[1] == "/abort_request"
    assert json.loads(told.body) == {"rid": json.loads(asked.body)["rid"]}


async def test_a_kept_alive_connection_that_the_backend_closed_costs_no_attempt() -> None:
    """llama.cpp promises keep-alive and hangs up after each stream."""
    whole = CHUNKED_SSE + chunked(chunk("a") + END) + b"0\r\n\r\n"
    async with (
        backend(lambda _: [whole, 0.05]) as upstream,
        guarded(upstream.url, policy=policy(attempts=1)) as (running, client),
    ):
        for _ in range(6):
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                assert text_of(await response.text()) == "a"
        await running.settled()
        assert [r.outcome.value for r in running.guard.records.latest(10)] == ["healthy"] * 6


@pytest.mark.parametrize("end", [b"", b"zz\r\n"])
async def test_a_connection_that_ends_badly_behind_a_whole_answer_is_no_failure(end: bytes) -> None:
    pool = msgspec.structs.replace(QUIET, transport=TransportSettings(failures=2))
    good = [CHUNKED_SSE + chunked(chunk("a") + END), 0.02, end]
    scripts: list[list[bytes | float | None]] = [[], [*good], [], [*good], [*good]]
    async with (
        backend(lambda n: scripts[n - 1]) as upstream,
        guarded(upstream.url, policy=policy(attempts=1), pool=pool) as (running, client),
    ):
        for script in scripts:
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                assert text_of(await response.text()) == ("a" if script else "")
        await running.settled()
        records = running.guard.records.latest(10)
        # What came through counts for the replica: the two failures are not in a row.
        assert not running.guard.pool.ejections
    assert [(r.outcome.value, r.attempts[0].fault) for r in records if r.outcome.value == "healthy"] == [
        ("healthy", "")
    ] * 3


async def test_heartbeats_begin_once_the_status_is_known() -> None:
    timeouts = TimeoutSettings(idle=5, drain=0.2, heartbeat=0.1)
    async with (
        backend(lambda _: [0.4, OK_SSE, chunk("One "), 0.4, chunk("two"), END]) as upstream,
        guarded(upstream.url, policy=policy(), timeouts=timeouts) as (running, client),
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            body = await response.text()
        first, _, rest = body.partition("One ")
        assert ": alive" not in first
        assert ": alive\n\n" in rest
        assert text_of(body) == "One two"


async def test_a_refusal_keeps_its_status_whatever_the_heartbeat() -> None:
    refusal = b"HTTP/1.1 422 Unprocessable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    timeouts = TimeoutSettings(idle=5, drain=0.2, heartbeat=0.05)
    async with (
        backend(lambda _: [0.3, refusal]) as upstream,
        guarded(upstream.url, policy=policy(), timeouts=timeouts) as (running, client),
        client.post(running.url + "/v1/chat/completions", json=CHAT) as response,
    ):
        assert (response.status, await response.text()) == (422, "{}")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/responses", {"input": "hi"}),
        ("/generate", {"text": "hi"}),
        ("/completion", {"prompt": "hi"}),
    ],
)
async def test_traceparent_and_unknown_headers_reach_the_backend_on_every_route(
    path: str, body: dict[str, object]
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with backend(lambda _: [NO_CONTENT]) as upstream, guarded(upstream.url, policy=policy()) as (running, client):
        headers = {"traceparent": trace, "tracestate": "a=b", "anthropic-version": "2023-06-01", "x-api-key": "k"}
        async with client.post(running.url + path, json=body, headers=headers) as response:
            await response.read()
        (request,) = upstream.requests
    assert headers.items() <= request.headers.items()
    assert request.line == f"POST {path} HTTP/1.1"


async def test_the_client_leaving_in_hold_back_aborts_once() -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk("One "), None]) as upstream,
        guarded(upstream.url, policy=policy(hold=FULL)) as (running, client),
    ):
        asking = asyncio.create_task(client.post(running.url + "/v1/chat/completions", json=CHAT))
        while not (running.guard.metrics.in_flight and upstream.requests):
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        while running.guard.metrics.in_flight:
            await asyncio.sleep(0.01)
        assert (upstream.closed_by_peer, running.guard.metrics.aborts_sent) == ([1], 1)


async def test_the_client_leaving_between_attempts_aborts_the_second_once() -> None:
    def script(n: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk(BAD), None] if n == 1 else [None]

    async with backend(script) as upstream, guarded(upstream.url, policy=policy(hold=FULL)) as (running, client):
        asking = asyncio.create_task(client.post(running.url + "/v1/chat/completions", json=CHAT))
        while len(upstream.requests) < 2:
            await asyncio.sleep(0.01)
        asking.cancel()
        while sorted(upstream.closed_by_peer) != [1, 2]:
            await asyncio.sleep(0.01)
        while running.guard.metrics.in_flight:
            await asyncio.sleep(0.01)
        assert running.guard.metrics.aborts_sent == 2


async def test_a_stream_that_outlasts_the_drain_is_aborted_once() -> None:
    async with backend(lambda _: [OK_SSE, chunk("One "), None]) as upstream:
        async with guarded(upstream.url, policy=policy()) as (running, client):
            response = await client.post(running.url + "/v1/chat/completions", json=CHAT)
            await response.content.readany()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        assert (upstream.closed_by_peer, running.guard.metrics.aborts_sent) == ([1], 1)


@pytest.mark.parametrize("leaves", ["at the write before it", "as it waits to be sent"])
async def test_an_abort_that_was_ordered_as_the_client_left_is_sent(
    leaves: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, wake = Outlet.put, Driver._wake

    def gone(outlet: Outlet, data: bytes, now: float) -> bool:
        if b"One" in data and leaves == "at the write before it":
            raise ClientLeft
        return put(outlet, data, now)

    def cancelled(driver: Driver) -> None:
        wake(driver)
        if leaves != "at the write before it" and any(isinstance(command, AbortAttempt) for command in driver._left):
            driver._request.task.cancel()

    monkeypatch.setattr(Outlet, "put", gone)
    monkeypatch.setattr(Driver, "_wake", cancelled)
    async with (
        backend(lambda _: [OK_SSE, chunk("Zero "), 0.1, chunk("One ") + chunk(BAD), None]) as upstream,
        guarded(upstream.url, policy=policy(Action.CUT)) as (running, client),
    ):
        with contextlib.suppress(aiohttp.ClientError):
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                await response.read()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        await running.settled()
        assert (running.guard.metrics.aborts_sent, running.guard.metrics.aborts_repeated) == (1, 0)


async def test_a_replica_whose_answers_never_end_properly_is_left_out() -> None:
    """HTTP has it that each of them went well."""
    broken = CHUNKED_SSE + chunked(chunk("One ")) + b"0\r\n\r\n"
    whole = CHUNKED_SSE + chunked(chunk("One ") + END) + b"0\r\n\r\n"
    transport = TransportSettings(failures=3, pause=0.0, time=100.0)
    pool = PoolSettings(health=HealthSettings(interval=0.0), confirm_aborts=0.0, transport=transport)
    async with (
        backend(lambda _: [broken]) as bad,
        backend(lambda _: [whole]) as good,
        guarded(bad.url, good.url, policy=policy(hold=FULL), pool=pool) as (running, client),
    ):
        for number in range(24):
            body = {**CHAT, "messages": [{"role": "user", "content": f"question {number}"}]}
            async with client.post(running.url + "/v1/chat/completions", json=body) as response:
                assert (await response.text()).endswith(DONE.decode()), "continued by the other"
        await running.settled()
        assert (len(bad.requests), len(good.requests)) == (3, 24)
