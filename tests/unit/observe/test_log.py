"""Logs: one line an exchange, in JSON, without prompt or answer."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import sys

import pytest
import structlog
from aiohttp.http_exceptions import BadStatusLine

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe.log import configure, exchange_fields, is_terminal, log_exchange, sampled, say
from guard.types import Kind


def record(outcome: Outcome) -> ExchangeRecord:
    bad = AttemptRecord(1, "a", "vllm", "first", verdict="retry", kind=Kind.GARBLED, rule="g", reason="why")
    return ExchangeRecord("r-1", "route", "m", "p", stream=True, outcome=outcome, attempts=[bad], duration=1.23456)


def test_one_json_line_with_what_an_operator_needs(capfd: pytest.CaptureFixture[str]) -> None:
    configure("info")
    log_exchange(structlog.get_logger(), record(Outcome.RESCUED))
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    line = json.loads(lines[0])
    assert line["level"] == "warning"
    assert line["request_id"] == "r-1"
    assert line["kind"] == "garbled"
    assert line["reason"] == "why"
    structlog.reset_defaults()


@pytest.mark.parametrize("outcome", Outcome)
def test_whatever_was_not_just_healthy_is_a_warning(outcome: Outcome, capfd: pytest.CaptureFixture[str]) -> None:
    configure("info")
    log_exchange(structlog.get_logger(), record(outcome))
    quiet = outcome in (Outcome.HEALTHY, Outcome.RELAYED, Outcome.CLIENT_GONE)
    assert json.loads(capfd.readouterr().err)["level"] == ("info" if quiet else "warning")


def test_healthy_exchanges_are_quiet_at_warning(capfd: pytest.CaptureFixture[str]) -> None:
    configure("warning")
    log_exchange(structlog.get_logger(), record(Outcome.HEALTHY))
    assert capfd.readouterr().err == ""
    structlog.reset_defaults()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level"):
        configure("loud")


def test_fields_are_rounded_and_faults_listed() -> None:
    made = record(Outcome.UPSTREAM_ERROR)
    made.attempts[0].fault = "reset"
    fields = exchange_fields(made)
    assert fields["duration_s"] == 1.2346
    assert fields["faults"] == ["reset"]


def test_a_broken_standard_error_costs_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    configure("info")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    log_exchange(structlog.get_logger(), record(Outcome.RESCUED))
    structlog.reset_defaults()


def test_a_closed_standard_error_costs_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    configure("info")
    monkeypatch.setattr(sys, "stderr", None)
    log_exchange(structlog.get_logger(), record(Outcome.RESCUED))
    say("hello")
    assert not is_terminal()
    structlog.reset_defaults()


def test_a_log_that_nobody_reads_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 8192)
    with os.fdopen(write, "w", encoding="utf-8") as stuck, os.fdopen(read, "rb", buffering=0) as reader:
        monkeypatch.setattr(sys, "stderr", stuck)
        configure("info")
        logger = structlog.get_logger()
        logger.info("first", more="x" * 3900)
        for _ in range(7):
            logger.info("later", more="x" * 3900)  # would wait for ever
        assert json.loads(reader.read(65_536).splitlines()[0])["event"] == "first"
        logger.info("at last")
        lines = reader.read(65_536).splitlines()
    assert json.loads(lines[-2])["lines"] == 6
    assert json.loads(lines[-1])["event"] == "at last"
    structlog.reset_defaults()


def test_a_full_disk_is_no_reason_not_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        say("hello")
        with contextlib.suppress(OSError):
            full.close()


def test_a_share_of_the_healthy_and_all_of_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    configure("info")
    for outcome in (Outcome.HEALTHY, Outcome.RESCUED):
        for number in range(100):
            made = record(outcome)
            made.request_id = f"r-{number}"
            log_exchange(structlog.get_logger(), made, "team-a", healthy=0.25)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert sum(line["outcome"] == "rescued" for line in lines) == 100
    assert 10 < sum(line["outcome"] == "healthy" for line in lines) < 45
    assert {line["client"] for line in lines} == {"team-a"}


def test_the_sample_is_the_same_everywhere_and_has_both_ends() -> None:
    assert all(sampled(f"{n}", 1.0) and not sampled(f"{n}", 0.0) for n in range(100))
    assert [sampled(f"{n}", 0.5) for n in range(50)] == [sampled(f"{n}", 0.5) for n in range(50)]


def test_libraries_speak_json_too(capfd: pytest.CaptureFixture[str]) -> None:
    configure("info")
    try:
        int("insides")
    except ValueError:
        logging.getLogger("some.library").exception("it %s", "broke")
    logging.getLogger("some.library").info("quiet")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["logger"]) for line in lines] == [("it broke", "error", "some.library")]
    assert "ValueError" in lines[0]["exception"]


@pytest.mark.parametrize(("level", "lines"), [("info", 2), ("warning", 1)])
def test_bytes_that_are_no_request_are_one_line_and_no_error(
    level: str, lines: int, capfd: pytest.CaptureFixture[str]
) -> None:
    configure(level)
    for kind in (BadStatusLine, ZeroDivisionError):
        try:
            raise kind("\x16\x03\x01")
        except (BadStatusLine, ZeroDivisionError):
            logging.getLogger("aiohttp.server").exception("Error handling request from %s", "10.0.0.1")
    told = [json.loads(line) for line in capfd.readouterr().err.strip().splitlines()]
    assert len(told) == lines
    assert (told[-1]["level"], "ZeroDivisionError" in told[-1]["exception"]) == ("error", True)
    if lines == 2:
        assert told[0]["event"] == "no HTTP request (BadStatusLine) from 10.0.0.1"
        assert told[0]["level"] == "info"
        assert "exception" not in told[0]
    structlog.reset_defaults()
