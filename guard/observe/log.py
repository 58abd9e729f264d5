"""Structured logs: one line an exchange, never one a chunk; no prompt, no answer, no secret."""

from __future__ import annotations

import contextlib
import logging
import sys
from zlib import crc32

import structlog

from guard.core.record import ExchangeRecord, Outcome

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

#: Outcomes that an operator should see at the default level of most log pipelines.
_LOUD = frozenset({Outcome.RESCUED, Outcome.CUT, Outcome.EXHAUSTED, Outcome.NOTED, Outcome.UPSTREAM_ERROR})


def configure(level: str = "info", *, human: bool = False) -> None:
    """
    Set the process's logging up, on standard error.

    Args:
        level: One of LEVELS.
        human: Coloured lines for a terminal instead of JSON.

    Raises:
        ValueError: Unknown level.
    """
    if level not in LEVELS:
        raise ValueError(f"unknown log level {level!r}; one of {', '.join(LEVELS)}")
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(_StandardError()),  # type: ignore[arg-type]
    )
    # Libraries speak up only when something is wrong, and in the same form.
    handler = logging.StreamHandler(_StandardError())
    handler.addFilter(_BadRequests(tell=LEVELS[level] <= logging.INFO))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _BadRequests(logging.Filter):
    """
    Makes one line, and no error, of what aiohttp says of bytes that are no HTTP request: whoever scans ports would fill
    the log with tracebacks.

    Args:
        tell: Whether that line is written.
    """

    def __init__(self, *, tell: bool) -> None:
        super().__init__()
        self._tell = tell

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        kind = record.exc_info[0] if record.exc_info else None
        if record.name != "aiohttp.server" or kind is None or kind.__module__ != "aiohttp.http_exceptions":
            return True
        record.msg, record.exc_info = f"no HTTP request ({kind.__name__}) from %s", None
        record.levelno, record.levelname = logging.INFO, "INFO"
        return self._tell


class _StandardError:
    """Standard error as it is at the time of writing; a broken one costs log lines, never a request."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def exchange_fields(record: ExchangeRecord) -> dict[str, object]:
    """The log line of one exchange, as key-value pairs."""
    bad = [attempt for attempt in record.attempts if attempt.kind is not None]
    fields: dict[str, object] = {
        "request_id": record.request_id,
        "route": record.route,
        "model": record.model,
        "policy": record.policy,
        "outcome": record.outcome.value,
        "status": record.status,
        "attempts": len(record.attempts),
        "replicas": [attempt.replica for attempt in record.attempts],
        "tokens_shown": record.tokens_shown,
        "tokens_burned": record.tokens_burned,
        "bad_tokens_shown": record.bad_tokens_shown,
        "duration_s": round(record.duration, 4),
    }
    if record.ttft_delivered is not None:
        fields["ttft_s"] = round(record.ttft_delivered, 4)
    if bad:
        fields["kind"] = bad[0].kind
        fields["rule"] = bad[0].rule
        fields["reason"] = bad[0].reason
        fields["onset_token"] = bad[0].onset_token
        fields["verdict_token"] = bad[0].verdict_token
    suspected = {attempt.replica: attempt.suspected for attempt in record.attempts if attempt.suspected}
    if suspected:
        fields["suspected"] = suspected
        fields["doubted"] = [attempt.number for attempt in record.attempts if attempt.doubted]
    faults = [attempt.fault for attempt in record.attempts if attempt.fault]
    if faults:
        fields["faults"] = faults
    return fields


def log_exchange(
    logger: structlog.typing.FilteringBoundLogger, record: ExchangeRecord, client: str = "", healthy: float = 1.0
) -> None:
    """
    Write the one line.

    Args:
        logger: Where to.
        record: The exchange.
        client: Name of the key that was used; empty where none is asked for.
        healthy: Share of the healthy exchanges that get a line. In [0, 1].
    """
    if record.outcome is Outcome.HEALTHY and not sampled(record.request_id, healthy):
        return
    write = logger.warning if record.outcome in _LOUD else logger.info
    named = {"client": client} if client else {}
    write("exchange", **exchange_fields(record), **named)


def sampled(request_id: str, share: float) -> bool:
    """Whether a request is in the sample: the same answer in every process that sees its id."""
    return share >= 1.0 or crc32(request_id.encode()) < share * 2**32
