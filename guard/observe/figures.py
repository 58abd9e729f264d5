"""Figures of finished exchanges and attempts that metrics and dashboard share."""

from __future__ import annotations

from guard.core.record import AttemptRecord, ExchangeRecord


def added_ttft(record: ExchangeRecord) -> float | None:
    """How much later the first token left than it came. Unit: seconds."""
    if record.ttft_upstream is None or record.ttft_delivered is None:
        return None
    return max(record.ttft_delivered - record.ttft_upstream, 0.0)


def result_of(attempt: AttemptRecord) -> str:
    """What an attempt says of its replica: good, bad or fault."""
    if attempt.fault:
        return "fault"
    return "bad" if attempt.verdict in ("retry", "cut") else "good"


def drafted_steps(attempt: AttemptRecord) -> tuple[int, int, int]:
    """Verify steps with a draft of known depth, tokens drafted in them, and of these kept."""
    if attempt.drafted and min(attempt.drafted) > 0:  # nearly all attempts: sums without a turn for every step
        return len(attempt.drafted), sum(attempt.drafted), sum(attempt.accepted)
    steps = drafted = accepted = 0
    for kept, depth in zip(attempt.accepted, attempt.drafted, strict=True):
        if depth > 0:
            steps += 1
            drafted += depth
            accepted += kept
    return steps, drafted, accepted
