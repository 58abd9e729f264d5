"""Structured logs: one line an exchange, never one a chunk; no prompt, no answer, no secret."""

from __future__ import annotations

import contextlib
import logging
import select
import sys
from zlib import crc32

import structlog

from guard.core.record import ExchangeRecord, Outcome

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

#: Outcomes that an operator should see at the default level of most log pipelines.
_LOUD = frozenset(Outcome) - {Outcome.HEALTHY, Outcome.RELAYED, Outcome.CLIENT_GONE}


def is_terminal() -> bool:
    """Whether standard error is one; it may be closed."""
    return sys.stderr is not None and sys.stderr.isatty()


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
        logger_factory=structlog.WriteLoggerFactory(_StandardError()),  # type: ignore[arg-type]
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
    """
    Standard error as it is at the time of writing. A broken one costs log lines, never a request; so does one that
    nobody reads (a log collector that hangs), which would hold up every stream.
    """

    def __init__(self) -> None:
        self._lost = 0
        self._cut = ""  # ends a line of which only the beginning was written

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if self._lost and _has_room():
                told = f'{self._cut}{{"event": "log lines lost: nobody read them", "lines": {self._lost}}}\n'
                self._lost, self._cut = 0, ""
                sys.stderr.write(told)
                sys.stderr.flush()
            size = select.PIPE_BUF if text.isascii() else select.PIPE_BUF // 4
            for at in range(0, len(text), size):
                if not _has_room():
                    self._lost += 1
                    self._cut = "\n" if at else self._cut
                    return
                sys.stderr.write(text[at : at + size])
                sys.stderr.flush()

    def flush(self) -> None:
        """Written already."""


def _has_room() -> bool:
    """Whether writing PIPE_BUF bytes to standard error would not wait; what is no file never does."""
    try:
        number = sys.stderr.fileno()
    except (OSError, ValueError):
        return True
    looking = select.poll()
    looking.register(number, select.POLLOUT)
    return bool(looking.poll(0))


def say(text: str) -> None:
    """Tell whoever started a command something, if there is anybody: a full disk is no reason not to serve."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


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
    elif not record.attempts and record.plan_reason:
        fields["reason"] = record.plan_reason  # nobody was asked
    suspected = {attempt.replica: attempt.suspected for attempt in record.attempts if attempt.suspected}
    if suspected:
        fields["suspected"] = suspected
        fields["doubted"] = [attempt.number for attempt in record.attempts if attempt.doubted]
    faults = [attempt.fault for attempt in record.attempts if attempt.fault]
    if faults:
        fields["faults"] = faults
    return fields


def log_exchange(
    logger: structlog.typing.FilteringBoundLogger,
    record: ExchangeRecord,
    client: str = "",
    healthy: float = 1.0,
    level: str = "debug",
) -> None:
    """
    Write the one line.

    Args:
        logger: Where to.
        record: The exchange.
        client: Name of the key that was used; empty where none is asked for.
        healthy: Share of the healthy exchanges that get a line. In [0, 1].
        level: The log's own: a line that it would leave out is not made. One of LEVELS.
    """
    loud = record.outcome in _LOUD
    if LEVELS["warning" if loud else "info"] < LEVELS[level]:
        return
    if record.outcome is Outcome.HEALTHY and not sampled(record.request_id, healthy):
        return
    write = logger.warning if loud else logger.info
    named = {"client": client} if client else {}
    write("exchange", **exchange_fields(record), **named)


def sampled(request_id: str, share: float) -> bool:
    """Whether a request is in the sample: the same answer in every process that sees its id."""
    return share >= 1.0 or crc32(request_id.encode()) < share * 2**32
