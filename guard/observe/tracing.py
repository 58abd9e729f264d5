"""
OpenTelemetry: one span an exchange, one child an attempt, by the conventions for generative AI.

Nothing is done per chunk, and nothing at all without `tracing`: the packages of the extra `otel` are imported only
then. Spans hold counts, names and reasons; no prompt and no answer.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from guard import __version__
from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.errors import ConfigError
from guard.observe.recorder import Share

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

#: Headers of a trace's context.
CONTEXT = ("traceparent", "tracestate")
#: Longest that sending may take, with what is tried again; so also how long the end of the process is held up.
#: Unit: milliseconds.
FLUSH = 2000
_COMPLETIONS = ("/completions", "/completion", "/generate")
_FAILED = frozenset({Outcome.CUT, Outcome.EXHAUSTED, Outcome.UPSTREAM_ERROR, Outcome.SHUTDOWN})


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    OpenTelemetry, over OTLP and HTTP. Needs the extra `otel`.

    Args:
        endpoint: Base URL of the receiver, such as http://otel-collector:4318.
        sample: Share of the traces begun here that are kept; a caller's own decision is followed. In [0, 1].
        service: Name of this service in the traces.
    """

    endpoint: Annotated[str, Meta(pattern="^https?://")]
    sample: Share = 1.0
    service: Annotated[str, Meta(min_length=1)] = "specdec-guard"


class Tracing:
    """
    Makes the spans of a process. Call `close` at the end.

    Args:
        settings: Where to, how many.
        processor: Takes finished spans instead of the receiver, for tests.

    Raises:
        ConfigError: The extra `otel` is not installed.
    """

    def __init__(self, settings: TracingSettings, processor: SpanProcessor | None = None) -> None:
        if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
            raise ConfigError("needs the extra otel: pip install 'specdec-guard[otel]'", where="tracing")
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        resource = Resource.create({"service.name": settings.service, "service.version": __version__})
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(settings.sample)), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor or _sender(settings.endpoint))
        self._tracer = self._provider.get_tracer("specdec-guard", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, headers: Mapping[str, str], route: str, model: str, request_id: str) -> Trace:
        """
        Begin the span of one exchange, in the trace of who sent it.

        Args:
            headers: The client's.
            route: Path asked for.
            model: As the client named it; empty where it did not.
            request_id: Of the exchange.
        """
        carrier = {name: headers[name] for name in CONTEXT if name in headers}
        return Trace(self._tracer, self._propagator, self._propagator.extract(carrier), route, model, request_id)

    def close(self) -> None:
        """Send what is not sent yet and stop."""
        self._provider.force_flush(FLUSH)
        self._provider.shutdown()


def _sender(endpoint: str) -> SpanProcessor:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    return BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=FLUSH / 1000))


class Trace:
    """
    The spans of one exchange. `Tracing.begin` makes it.

    An attempt's span ends when the exchange does, with the time at which the attempt was over: only then is its
    verdict known.
    """

    def __init__(
        self,
        tracer: Tracer,
        propagator: TextMapPropagator,
        context: Context,
        route: str,
        model: str,
        request_id: str,
    ) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        self._tracer, self._propagator, self._kinds = tracer, propagator, SpanKind
        operation = "text_completion" if route.endswith(_COMPLETIONS) and "chat" not in route else "chat"
        self._name = f"{operation} {model}".rstrip()
        self._common = {"gen_ai.operation.name": operation}
        if model:
            self._common["gen_ai.request.model"] = model
        self._span: Span = tracer.start_span(
            self._name,
            context,
            SpanKind.SERVER,
            {**self._common, "http.request.method": "POST", "url.path": route, "guard.request_id": request_id},
        )
        self._attempts: dict[int, tuple[Span, list[int]]] = {}
        self._running: int | None = None

    def attempt(self, number: int, replica: str, url: str) -> dict[str, str]:
        """
        Begin the span of one attempt.

        Args:
            number: Of the attempt.
            replica: Its name.
            url: Base URL of the replica.

        Returns:
            Headers that continue the trace at the backend.
        """
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        self.attempt_over()
        parts = urlsplit(url)
        given: dict[str, str | int] = {**self._common, "guard.attempt": number, "guard.replica": replica}
        given["server.address"] = parts.hostname or ""
        given["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
        span = self._tracer.start_span(self._name, set_span_in_context(self._span), self._kinds.CLIENT, given)
        self._attempts[number] = (span, [])
        self._running = number
        headers: dict[str, str] = {}
        self._propagator.inject(headers, set_span_in_context(span))
        return headers

    def attempt_over(self) -> None:
        """The attempt that runs, if any, is over."""
        if self._running is not None:
            self._attempts[self._running][1].append(time.time_ns())
            self._running = None

    def finish(self, record: ExchangeRecord) -> None:
        """End all spans, with what the record says."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415

        self.attempt_over()
        for attempt in record.attempts:
            span, ended = self._attempts.pop(attempt.number, (None, []))
            if span is not None:
                at = ended[0] if ended else time.time_ns()
                span.set_attributes(_of_attempt(attempt))
                if attempt.kind is not None:
                    span.add_event("guard.verdict", _of_verdict(attempt), at)
                if attempt.fault:
                    span.set_status(StatusCode.ERROR, attempt.fault)
                span.end(at)
        for span, _ in self._attempts.values():
            span.end()
        self._span.set_attributes(_of_exchange(record))
        if record.outcome in _FAILED:
            self._span.set_status(StatusCode.ERROR, record.outcome.value)
        self._span.end()


def _of_exchange(record: ExchangeRecord) -> dict[str, Any]:
    out: dict[str, Any] = {
        "gen_ai.request.stream": record.stream,
        "gen_ai.usage.output_tokens": record.tokens_shown,
        "guard.policy": record.policy,
        "guard.outcome": record.outcome.value,
        "guard.attempts": len(record.attempts),
        "guard.tokens_burned": record.tokens_burned,
        "guard.bad_tokens_shown": record.bad_tokens_shown,
        "guard.held_tokens_max": record.held_tokens_max,
    }
    if record.status:
        out["http.response.status_code"] = record.status
    if record.ttft_delivered is not None:
        out["gen_ai.response.time_to_first_chunk"] = record.ttft_delivered
    if record.outcome in _FAILED:
        out["error.type"] = record.outcome.value
    return out


def _of_attempt(attempt: AttemptRecord) -> dict[str, Any]:
    out: dict[str, Any] = {
        "gen_ai.usage.output_tokens": attempt.tokens,
        "guard.engine": attempt.engine,
        "guard.mode": attempt.mode,
        "guard.tokens_shown": attempt.tokens_shown,
        "guard.changes": sorted(attempt.changes),
    }
    known = [accepted for accepted, drafted in zip(attempt.accepted, attempt.drafted, strict=True) if drafted > 0]
    if known:
        out["guard.acceptance_length"] = 1 + sum(known) / len(known)
    if attempt.fault:
        out["error.type"] = attempt.fault
    return out


def _of_verdict(attempt: AttemptRecord) -> dict[str, Any]:
    out: dict[str, Any] = {
        "guard.verdict.action": attempt.verdict,
        "guard.verdict.kind": attempt.kind.value if attempt.kind is not None else "",
        "guard.verdict.rule": attempt.rule,
        "guard.verdict.suspicion": attempt.suspicion,
        "guard.verdict.reason": attempt.reason,
    }
    for name, value in (("onset_token", attempt.onset_token), ("token", attempt.verdict_token)):
        if value is not None:
            out[f"guard.verdict.{name}"] = value
    return out
