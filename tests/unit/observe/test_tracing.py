"""Spans of one exchange, from records: names, parents, attributes, times."""

from __future__ import annotations

import importlib.util

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.errors import ConfigError
from guard.observe.tracing import Tracing, TracingSettings
from guard.types import Kind

ROUTE = "/v1/chat/completions"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def tracing(sample: float = 1.0) -> tuple[Tracing, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    settings = TracingSettings(endpoint="http://nowhere", sample=sample, service="here")
    return Tracing(settings, SimpleSpanProcessor(exporter)), exporter


def record(outcome: Outcome, *attempts: AttemptRecord) -> ExchangeRecord:
    return ExchangeRecord(
        "r-1", ROUTE, "m", "default", stream=True, outcome=outcome, attempts=list(attempts), status=200,
        tokens_shown=7, tokens_burned=5, ttft_delivered=0.25,
    )  # fmt: skip


BAD = AttemptRecord(
    1, "a", "vllm", "first", tokens=5, accepted=[2, 0, 1], drafted=[3, 3, -1], verdict="retry", kind=Kind.GARBLED,
    rule="garbled", suspicion=1.0, onset_token=2, verdict_token=5, reason="why",
)  # fmt: skip
GOOD = AttemptRecord(2, "b", "vllm", "restart", changes={"seed": 5}, tokens=7, tokens_shown=7)


def rescued() -> tuple[dict[str, str], list[ReadableSpan]]:
    made, exporter = tracing()
    trace = made.begin({"traceparent": PARENT, "tracestate": "v=1"}, ROUTE, "m", "r-1")
    headers = [trace.attempt(1, "a", "http://h:81"), trace.attempt(2, "b", "https://i/x")]
    trace.finish(record(Outcome.RESCUED, BAD, GOOD))
    return headers[1], list(exporter.get_finished_spans())


def test_an_exchange_is_a_span_of_the_callers_trace_and_its_attempts_are_children() -> None:
    _, (first, second, exchange) = rescued()
    assert {span.name for span in (first, second, exchange)} == {"chat m"}
    assert [span.kind for span in (first, second, exchange)] == [SpanKind.CLIENT, SpanKind.CLIENT, SpanKind.SERVER]
    assert exchange.parent is not None
    assert f"{exchange.parent.trace_id:032x}-{exchange.parent.span_id:016x}" in PARENT
    for child in (first, second):
        assert child.parent is not None
        assert child.parent.span_id == exchange.context.span_id
        assert exchange.start_time <= child.start_time <= child.end_time <= exchange.end_time  # type: ignore[operator]
    assert first.end_time <= second.start_time  # type: ignore[operator]


def test_the_backend_continues_the_attempts_span() -> None:
    headers, (_, second, _) = rescued()
    assert headers["traceparent"] == f"00-{second.context.trace_id:032x}-{second.context.span_id:016x}-01"
    assert headers["tracestate"] == "v=1"


def test_what_spans_say() -> None:
    _, (first, second, exchange) = rescued()
    assert exchange.attributes is not None
    assert second.attributes is not None
    for name, value in {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "http.response.status_code": 200,
        "guard.outcome": "rescued",
        "guard.attempts": 2,
        "guard.tokens_burned": 5,
    }.items():
        assert exchange.attributes[name] == value
    assert dict(first.attributes or {})["guard.acceptance_length"] == 2.0
    assert second.attributes["server.address"] == "i"
    assert second.attributes["server.port"] == 443
    assert second.attributes["guard.changes"] == ("seed",)
    assert exchange.resource.attributes["service.name"] == "here"
    assert exchange.status.status_code is StatusCode.UNSET


def test_a_verdict_is_an_event_at_the_end_of_its_attempt() -> None:
    _, (first, second, _) = rescued()
    (event,) = first.events
    assert event.name == "guard.verdict"
    assert event.timestamp == first.end_time
    assert dict(event.attributes or {}) == {
        "guard.verdict.action": "retry",
        "guard.verdict.kind": "garbled",
        "guard.verdict.rule": "garbled",
        "guard.verdict.suspicion": 1.0,
        "guard.verdict.reason": "why",
        "guard.verdict.onset_token": 2,
        "guard.verdict.token": 5,
    }
    assert second.events == ()


def test_failures_are_errors() -> None:
    made, exporter = tracing()
    trace = made.begin({}, "/v1/completions", "", "r-1")
    trace.attempt(1, "a", "http://h")
    trace.finish(record(Outcome.UPSTREAM_ERROR, AttemptRecord(1, "a", "vllm", "first", fault="reset")))
    attempt, exchange = exporter.get_finished_spans()
    assert exchange.name == "text_completion"
    assert [span.status.status_code for span in (attempt, exchange)] == [StatusCode.ERROR] * 2
    assert (attempt.attributes or {})["error.type"] == "reset"
    assert (exchange.attributes or {})["error.type"] == "upstream_error"


def test_an_answer_that_was_broken_off_as_the_guard_stopped_is_an_error_too() -> None:
    made, exporter = tracing()
    made.begin({}, ROUTE, "", "r-1").finish(record(Outcome.SHUTDOWN))
    (exchange,) = exporter.get_finished_spans()
    assert exchange.status.status_code is StatusCode.ERROR
    assert (exchange.attributes or {})["error.type"] == "shutdown"


def test_an_attempt_without_a_record_ends_with_its_exchange() -> None:
    made, exporter = tracing()
    trace = made.begin({}, ROUTE, "m", "r-1")
    trace.attempt(1, "a", "http://h")
    trace.finish(record(Outcome.CLIENT_GONE))
    assert len(exporter.get_finished_spans()) == 2


@pytest.mark.parametrize(("flag", "spans"), [("01", 1), ("00", 0)])
def test_the_callers_decision_is_followed(flag: str, spans: int) -> None:
    made, exporter = tracing(sample=0.0 if flag == "01" else 1.0)
    trace = made.begin({"traceparent": PARENT[:-2] + flag}, ROUTE, "m", "r-1")
    assert trace.attempt(1, "a", "http://h")["traceparent"].endswith(f"-{flag}")
    trace.finish(record(Outcome.HEALTHY))
    assert len(exporter.get_finished_spans()) == 2 * spans


@pytest.mark.parametrize("given", ["", "x", "00-zz-yy-01", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "0" * 5000])
def test_a_wrong_context_begins_a_trace_of_its_own(given: str) -> None:
    made, exporter = tracing()
    made.begin({"traceparent": given}, ROUTE, "m", "r-1").finish(record(Outcome.HEALTHY))
    assert exporter.get_finished_spans()[0].parent is None


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"tracing: needs the extra otel: pip install"):
        Tracing(TracingSettings(endpoint="http://nowhere"))
