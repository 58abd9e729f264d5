"""What the page is told of an exchange: a line for lists, and all there is for its own page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from guard.core.record import AttemptRecord, ExchangeRecord
from guard.observe.figures import added_ttft
from guard.policy.schema import Policy
from guard.policy.written import written, written_rule

#: Points of the small curve in a list.
SPARK_POINTS = 48


class _Recorded(msgspec.Struct):
    text: str
    chunks: list[list[str | int]]


_recorded = msgspec.json.Decoder(_Recorded)


def line_of(record: ExchangeRecord) -> dict[str, object]:
    """One exchange in a list: its summary, and what helps to pick the one that is looked for."""
    first = record.attempts[0] if record.attempts else None
    bad = next((attempt for attempt in record.attempts if attempt.kind is not None), None)
    shown = bad or first
    return {
        **record.summary(),
        "ended_at": record.ended_at,
        "model": record.model,
        "policy": record.policy,
        "status": record.status,
        "rule": bad.rule if bad is not None else "",
        "fault": next((attempt.fault for attempt in record.attempts if attempt.fault), ""),
        "replicas": [attempt.replica for attempt in record.attempts],
        "duration": round(record.duration, 4),
        "tokens_shown": record.tokens_shown,
        "tokens_burned": record.tokens_burned,
        "added": added_ttft(record) if record.stream else None,
        "spark": spark(shown.accepted, shown.drafted) if shown is not None else [],
    }


def spark(accepted: Sequence[int], drafted: Sequence[int], points: int = SPARK_POINTS) -> list[float | None]:
    """
    Acceptance over a stream in a few points.

    Args:
        accepted: Tokens kept of each verify step.
        drafted: Tokens drafted.
        points: Most points.

    Returns:
        Share of the draft that was kept, in equal stretches; None where nothing was drafted.
    """
    steps = len(accepted)
    count = min(points, steps)
    out: list[float | None] = []
    for place in range(count):
        low, high = steps * place // count, steps * (place + 1) // count
        depth = sum(max(one, 0) for one in drafted[low:high])
        kept = sum(one for one, of in zip(accepted[low:high], drafted[low:high], strict=True) if of > 0)
        out.append(round(kept / depth, 3) if depth else None)
    return out


def detail_of(
    record: ExchangeRecord, policies: Sequence[Policy], lines: Mapping[int, bytes], *, is_open: bool = False
) -> dict[str, object]:
    """
    All that is known of one exchange.

    Args:
        record: The exchange.
        policies: Those in force.
        lines: What was recorded of its attempts, by number, as in the recorder's files.
        is_open: Whether it is still under way.

    Returns:
        The record's own fields, `rules` (those that decided) and `hold_back` as written, for each attempt its `text`
        (chunks as recorded, none where nothing was), and for both `bad_tokens_shown`: what left after the onset.
    """
    out: dict[str, object] = msgspec.to_builtins(record)
    attempts = out["attempts"]
    assert isinstance(attempts, list)
    texts = {number: _recorded.decode(line) for number, line in lines.items()}
    for attempt, of in zip(attempts, record.attempts, strict=True):
        found = texts.get(of.number)
        attempt["text"] = found.chunks if found is not None else None
        attempt["bad_tokens_shown"] = of.bad_tokens_shown
    out["bad_tokens_shown"] = record.bad_tokens_shown
    out["bad_tokens_shown"] = record.bad_tokens_shown
    out["open"] = is_open
    out["added"] = added_ttft(record) if record.stream else None
    out["text_kind"] = next((found.text for found in texts.values()), None)
    mine = [policy for policy in policies if policy.name == record.policy]
    out["rules"] = _rules(record.attempts, mine)
    out["hold_back"] = written(mine[0])["hold_back"] if mine else None
    return out


def _rules(attempts: Sequence[AttemptRecord], policies: Sequence[Policy]) -> dict[str, object]:
    """The rules that decided, as they stand now; one that is no longer there is left out."""
    wanted = {attempt.rule for attempt in attempts if attempt.rule}
    return {rule.name: written_rule(rule) for policy in policies for rule in policy.rules if rule.name in wanted}
