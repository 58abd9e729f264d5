"""What the page is told of an exchange."""

from __future__ import annotations

import msgspec
import pytest

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.core.tape import Tapes
from guard.dashboard.account import SPARK_POINTS, detail_of, line_of, spark
from guard.observe.recording import line_of as recorded_line
from guard.observe.recording import recordings
from guard.shipped import find_policy
from guard.types import Action, Channel, Finding, Kind, Sample, SignalRef, StepAcceptance, Unit, Verdict, Window


def rescued() -> ExchangeRecord:
    bad = AttemptRecord(1, "a", "vllm", "first", accepted=[3, 0, 0], drafted=[3, 3, -1], tokens=6, tokens_shown=5)
    finding = Finding(SignalRef("garble", Window(160, Unit.CHARACTERS)), 0.4, 4, "0.40 broken joints a word")
    bad.judge(Verdict(Action.RETRY, 1.0, Kind.GARBLED, "garbled", 0, 6, 4, (finding,)))
    good = AttemptRecord(2, "b", "vllm", "restart", accepted=[2], drafted=[3])
    return ExchangeRecord(
        "r/1", "/v1/chat/completions", "m", "default", stream=True, outcome=Outcome.RESCUED, attempts=[bad, good],
        ttft_upstream=0.1, ttft_delivered=0.35, ended_at=1e9,
    )  # fmt: skip


def test_a_line_says_what_was_wrong_and_where() -> None:
    line = line_of(rescued())
    assert (line["kind"], line["rule"], line["replicas"]) == ("garbled", "garbled", ["a", "b"])
    assert line["spark"] == [1.0, 0.0, None]
    assert line["added"] == pytest.approx(0.25)


def test_a_long_stream_becomes_a_short_curve() -> None:
    points = spark([3] * 1000 + [0] * 1000, [3] * 2000)
    assert len(points) == SPARK_POINTS
    assert points == [1.0] * (SPARK_POINTS // 2) + [0.0] * (SPARK_POINTS // 2)
    assert spark([], []) == []


def test_the_page_of_one_exchange_has_findings_rules_levels_and_text() -> None:
    record = rescued()
    tapes = Tapes()
    tapes.begin(record.attempts[0])
    tapes.add([Sample(0, ((Channel.CONTENT, "Secret words"),), 4, (StepAcceptance(3, 3, 4, True),))])
    (recording,) = recordings(record, tapes.attempts)
    detail = detail_of(record, [find_policy("default")], {1: recorded_line(recording)})
    first, second = detail["attempts"]  # type: ignore[misc, has-type]
    assert first["findings"][0]["value"] == 0.4
    assert first["text"] == [["Xxxxxx xxxxx", 4, 3, 3]]
    assert second["text"] is None
    # Onset at token 4, five shown: one of them is bad.
    assert (first["bad_tokens_shown"], second["bad_tokens_shown"], detail["bad_tokens_shown"]) == (1, 0, 1)
    assert detail["text_kind"] == "redacted"
    assert list(detail["rules"]) == ["garbled"]  # type: ignore[call-overload]
    assert detail["hold_back"]["hold_at"] == 0.5  # type: ignore[index]
    assert b"Secret" not in msgspec.json.encode(detail)


def test_a_policy_that_is_gone_leaves_its_rules_out() -> None:
    detail = detail_of(rescued(), [], {}, is_open=True)
    assert (detail["rules"], detail["hold_back"], detail["open"]) == ({}, None, True)
