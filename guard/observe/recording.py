"""Finished exchanges as lines of the case format, which `guard backtest` reads. Pure: nothing is written here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe.redaction import redact, scramble
from guard.types import Sample

#: Tokens without a completed verify step that are joined to the next one; more become a chunk of their own.
_MOST_PENDING = 16
#: What is left of a text; the first two are described in redaction.py.
Text = Literal["redacted", "scrambled", "full"]
#: An attempt and its samples, in order; the samples may end early where a bound was reached.
Tape = tuple[AttemptRecord, Sequence[Sample]]
Row = tuple[str, int] | tuple[str, int, int, int]


class Recording(msgspec.Struct, frozen=True):
    """
    One attempt that becomes a line.

    Args:
        record: The exchange.
        attempt: The attempt.
        samples: What it said.
        prompt: What the user asked, if it is known.
    """

    record: ExchangeRecord
    attempt: AttemptRecord
    samples: Sequence[Sample]
    prompt: str = ""


class _Line(msgspec.Struct, omit_defaults=True):
    id: str
    kind: str
    subkind: str
    num_speculative_tokens: int
    first_bad_token: int | None
    hard_negative: str | None
    request_id: str
    model: str
    route: str
    policy: str
    engine: str
    attempt: int
    rule: str
    reason: str
    text: Text
    prompt: str
    chunks: list[Row]
    logprobs: list[list[float]] | None = None


def recordings(record: ExchangeRecord, tapes: Sequence[Tape], prompt: str = "") -> list[Recording]:
    """
    What of an exchange is worth a line: attempts with a verdict, and the one that was good.

    Attempts that a fault or the client's leaving broke off say nothing about quality.

    Args:
        record: The exchange, finished.
        tapes: Its attempts with their samples.
        prompt: What the user asked, if it is known.
    """
    last = record.attempts[-1] if record.attempts else None
    good = last if last is not None and record.outcome in (Outcome.HEALTHY, Outcome.RESCUED) else None
    return [
        Recording(record, attempt, samples, prompt)
        for attempt, samples in tapes
        if samples and (attempt.kind is not None or (attempt is good and not attempt.fault))
    ]


def line_of(recording: Recording, text: Text = "redacted", key: bytes = b"") -> bytes:
    """
    One line in the case format, its line end included.

    Args:
        recording: The attempt.
        text: What is left of what was said.
        key: Random bytes by which it is scrambled; for this line only.
    """
    record, attempt = recording.record, recording.attempt
    shown, told = rows_told(recording.samples)
    said = "".join(row[0] for row in shown)
    # The whole at once: chunks end in the middle of words. Every character stays one character.
    said = _kept(said, text, key)
    chunks: list[Row] = []
    place = 0
    for row in shown:
        chunks.append((said[place : place + len(row[0])], *row[1:]))
        place += len(row[0])
    bad = attempt.kind is not None
    line = _Line(
        id=f"{record.request_id}/{attempt.number}",
        kind=attempt.kind.value if attempt.kind is not None else "healthy",
        # A continuation starts in the middle of a text.
        subkind="continued" if attempt.mode == "resume" else "recorded",
        num_speculative_tokens=_depth(recording.samples),
        first_bad_token=max((attempt.onset_token or 0) - attempt.began_at, 0) if bad else None,
        hard_negative=None,
        request_id=record.request_id,
        model=record.model,
        route=record.route,
        policy=record.policy,
        engine=attempt.engine,
        attempt=attempt.number,
        rule=attempt.rule,
        # It may quote what was said.
        reason=attempt.reason if text == "full" else "",
        text=text,
        prompt=_kept(recording.prompt, text, key),
        chunks=chunks,
        # A reader who has the model could find the text by them.
        logprobs=told if text == "full" and any(told) else None,
    )
    return msgspec.json.encode(line) + b"\n"


def _kept(said: str, text: Text, key: bytes) -> str:
    if text == "full":
        return said
    return scramble(said, key) if text == "scrambled" else redact(said)


def _depth(samples: Sequence[Sample]) -> int:
    """Deepest draft seen; 0 where no verify step was."""
    return max((max(step.drafted, step.accepted) for sample in samples for step in sample.steps), default=0)


def rows(samples: Sequence[Sample]) -> list[Row]:
    """
    Samples of the first choice as chunks of a case, one for each verify step.

    Engines may send a step's tokens as several chunks and tell of the step with the last: their texts
    are joined. A stream without any verify step gives chunks of two values.
    """
    return rows_told(samples)[0]


def rows_told(samples: Sequence[Sample]) -> tuple[list[Row], list[list[float]]]:
    """The rows, and the log-probabilities told of the tokens of each. Unit: nats."""
    mine = [sample for sample in samples if sample.choice == 0]
    told = any(sample.steps for sample in mine)
    out: list[Row] = []
    logprobs: list[list[float]] = []
    pending, tokens = "", 0
    likely: list[float] = []
    for sample in mine:
        pending += "".join(text for _, text in sample.texts)
        tokens += sample.tokens
        likely += [round(value, 4) for value in sample.logprobs]
        if not told:
            out.append((pending, tokens))
            logprobs.append(likely)
            pending, tokens, likely = "", 0, []
            continue
        for place, step in enumerate(sample.steps, 1):
            # The first step carries the text; the last one takes the tokens that are left.
            last = place == len(sample.steps)
            share = tokens if last else min(step.tokens, tokens)
            out.append((pending, share, step.accepted, step.drafted))
            logprobs.append(likely if last else likely[:share])
            pending, tokens, likely = "", tokens - share, [] if last else likely[share:]
        if tokens > _MOST_PENDING:
            out.append((pending, tokens, 0, 0))
            logprobs.append(likely)
            pending, tokens, likely = "", 0, []
    if pending or tokens or likely:
        out.append((pending, tokens, 0, 0))
        logprobs.append(likely)
    return out, logprobs
