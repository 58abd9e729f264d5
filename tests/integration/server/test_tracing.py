"""Traces over the wire: from a client's traceparent to the backend's, and to a receiver that speaks OTLP."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import subprocess
import sys
from collections.abc import AsyncIterator

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from guard.observe.tracing import TracingSettings
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import BAD, DONE, chunk, policy

TRACE = "0af7651916cd43dd8448eb211c80319c"
BODY = {"model": "m", "messages": [{"role": "user", "content": "canary-prompt"}], "stream": True}


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A collector: its address, and what was sent there."""
    got: list[ExportTraceServiceRequest] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        got.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", got
    finally:
        await runner.cleanup()


def spans(got: list[ExportTraceServiceRequest]) -> list[Span]:
    return [span for one in got for part in one.resource_spans for scope in part.scope_spans for span in scope.spans]


def script(number: int) -> list[bytes | float | None]:
    if number == 1:
        return [OK_SSE, chunk(BAD + "canary-answer"), None]
    return [OK_SSE, chunk("canary-answer"), chunk("", finish="stop"), DONE]


async def test_one_trace_from_the_client_to_both_attempts() -> None:
    async with receiver() as (endpoint, got), backend(script) as upstream:
        async with guarded(upstream.url, policy=policy(), tracing=TracingSettings(endpoint=endpoint)) as (
            running,
            client,
        ):
            headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "baggage": "a=1"}
            async with client.post(running.url + "/v1/chat/completions", json=BODY, headers=headers) as answer:
                assert "canary-answer" in await answer.text()
        sent = spans(got)
    by_id = {span.span_id.hex(): span for span in sent}
    assert len(by_id) == 3
    assert {span.trace_id.hex() for span in sent} == {TRACE}
    (exchange,) = [span for span in sent if span.kind == Span.SPAN_KIND_SERVER]
    assert exchange.parent_span_id.hex() == "b7ad6b7169203331"
    continued = [request.headers["traceparent"].split("-") for request in upstream.requests]
    assert [parts[1] for parts in continued] == [TRACE] * 2
    attempts = [by_id[parts[2]] for parts in continued]
    assert [span.parent_span_id for span in attempts] == [exchange.span_id] * 2
    assert [[event.name for event in span.events] for span in attempts] == [["guard.verdict"], []]
    assert upstream.requests[1].headers["baggage"] == "a=1"
    assert "canary" not in str(got)


async def test_without_tracing_the_clients_context_passes_as_it_is() -> None:
    given = f"00-{TRACE}-b7ad6b7169203331-01"
    async with backend(script) as upstream, guarded(upstream.url, policy=policy()) as (running, client):
        url = running.url + "/v1/chat/completions"
        async with client.post(url, json=BODY, headers={"traceparent": given}) as answer:
            await answer.read()
    assert [request.headers["traceparent"] for request in upstream.requests] == [given] * 2


async def test_a_receiver_that_is_away_costs_no_request_and_holds_up_no_end() -> None:
    settings = TracingSettings(endpoint="http://127.0.0.1:9")
    loop = asyncio.get_running_loop()
    async with backend(script) as upstream:
        async with guarded(upstream.url, policy=policy(), tracing=settings) as (running, client):
            async with client.post(running.url + "/v1/chat/completions", json=BODY) as answer:
                assert "[DONE]" in await answer.text()
            begun = loop.time()
        assert loop.time() - begun < 8


def test_the_packages_are_imported_only_when_traces_are_made() -> None:
    # Not the whole server: redis-py imports them for itself where they are installed.
    code = (
        "import sys, guard.observe.tracing; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
