"""Failures: status, code and a message that says why."""

from __future__ import annotations

import pytest

from guard.core.failure import of_error_event, of_fault, of_verdict
from guard.errors import UpstreamError
from guard.types import Action, Finding, Kind, SignalRef, Verdict


@pytest.mark.parametrize(("kind", "status"), [("timeout", 504), ("connect", 502), ("truncated", 502)])
def test_faults(kind: str, status: int) -> None:
    failure = of_fault(UpstreamError(kind, "it broke"))
    assert (failure.status, failure.code) == (status, f"upstream_{kind}")
    assert "it broke" in failure.message


def test_a_backends_error_is_quoted_within_bounds() -> None:
    failure = of_error_event(b'{"error": "' + b"\xff" + b"x" * 10_000)
    assert failure.code == "upstream_error"
    assert len(failure.message) < 600


def test_a_verdict_names_kind_evidence_and_attempts() -> None:
    finding = Finding(SignalRef("garble"), 0.5, 3, "words are broken")
    verdict = Verdict(Action.RETRY, 1.0, Kind.GARBLED, "g", findings=(finding,))
    failure = of_verdict(verdict, code="guard_exhausted", attempts=3, reason="all 3 attempts used")
    assert failure.message == (
        "The generation was stopped: garbled output (words are broken). 3 attempt(s) made; all 3 attempts used."
    )
