"""Failures: status, code and a message that says why."""

from __future__ import annotations

import pytest

from guard.core.failure import of_error_event, of_fault, of_verdict
from guard.errors import UpstreamError
from guard.types import Action, Finding, Kind, SignalRef, Verdict


@pytest.mark.parametrize(
    ("kind", "status", "retry_after"),
    [("timeout", 504, None), ("connect", 502, None), ("truncated", 502, None), ("unavailable", 503, 7)],
)
def test_faults(kind: str, status: int, retry_after: int | None) -> None:
    failure = of_fault(UpstreamError(kind, "it broke"), 7)
    assert (failure.status, failure.code, failure.retry_after) == (status, f"upstream_{kind}", retry_after)
    assert "it broke" in failure.message


def test_a_backends_error_is_quoted_within_bounds() -> None:
    failure = of_error_event(b'{"error": "' + b"\xff" + b"x" * 10_000)
    assert failure.code == "upstream_error"
    assert len(failure.message) < 600


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (b'{"error":{"code":400,"message":"x"}}', 400, b'{"error":{"code":400,"message":"x"}}'),
        (b'{"code":503,"message":"x"}', 503, b'{"error":{"code":503,"message":"x"}}'),
        (b'{"type":"error","error":{"type":"invalid_request_error"}}', 400, None),
        (b'{"error":"boom"}', 502, None),
        (b'{"response":{"error":{"code":"x"}}}', 502, b'{"error":{"code":"x"}}'),
        (b'{"response":{"error":null}}', 502, b'{"error":{"message":"the response failed"}}'),
        (b'{"error":{"code":7}}', 502, None),
        (b"[1]", 502, b""),
    ],
)
def test_a_backends_error_keeps_its_status_and_words(data: bytes, status: int, body: bytes | None) -> None:
    failure = of_error_event(data)
    assert (failure.status, failure.body) == (status, data if body is None else body)


def test_a_verdict_names_kind_evidence_and_attempts() -> None:
    finding = Finding(SignalRef("garble"), 0.5, 3, "words are broken")
    verdict = Verdict(Action.RETRY, 1.0, Kind.GARBLED, "g", findings=(finding,))
    failure = of_verdict(verdict, code="guard_exhausted", attempts=3, reason="all 3 attempts used")
    assert failure.message == (
        "The generation was stopped: garbled output (words are broken). 3 attempt(s) made; all 3 attempts used."
    )
