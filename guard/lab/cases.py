"""
Labelled streams on disk, and one of them run through the same code that judges live traffic.

A file has one JSON object a line:

    {"id", "kind", "subkind", "num_speculative_tokens", "first_bad_token", "hard_negative", "prompt", "chunks",
     "logprobs"}

A chunk is `[text, tokens]`, one verify step that kept tokens - 1 of `num_speculative_tokens` drafted
tokens, or `[text, tokens, accepted, drafted]`, where drafted 0 means that the step had no draft and -1
that it is not known. With `num_speculative_tokens` 0, short chunks tell of no verify step at all.
`logprobs`, which few cases have, holds a list for each chunk: the log-probabilities of its tokens in nats, as far as
they were told. Other fields are left alone. A file that gzip has packed is read through it, whatever its name.
"""

from __future__ import annotations

import codecs
import enum
import gzip
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import msgspec

from guard.core.factory import window_of
from guard.core.holdback import Held
from guard.core.monitor import Monitor
from guard.core.record import UNKNOWN_DRAFT
from guard.detect.baseline import Baseline
from guard.errors import ConfigError
from guard.policy.judge import Judge
from guard.policy.schema import HoldMode
from guard.types import Action, Channel, Kind, Sample, StepAcceptance, Verdict
from guard.yamldoc import not_known
from guard.yamlwords import plain_words


class CaseKind(enum.StrEnum):
    """What a case is labelled as; RESCORE_ONLY is wrong yet fluent, so neither signal can tell."""

    HEALTHY = "healthy"
    GARBLED = "garbled"
    RARE_CHARS = "rare_chars"
    REPETITION = "repetition"
    RESCORE_ONLY = "rescore_only"


#: The kinds that a policy is expected to find.
BAD_KINDS = (CaseKind.GARBLED, CaseKind.RARE_CHARS, CaseKind.REPETITION)


class CaseChunk(NamedTuple):
    """
    One chunk of a case.

    Args:
        text: What it adds to the answer.
        tokens: Tokens it adds. Unit: tokens.
        accepted: Draft tokens its verify step kept, bonus excluded; None when it tells of no step.
        drafted: Draft tokens proposed; 0 when there was no draft, -1 when unknown.
        logprobs: Log-probabilities of its tokens, as far as they were told. Unit: nats.
    """

    text: str
    tokens: int
    accepted: int | None
    drafted: int
    logprobs: tuple[float, ...] = ()


class Case(msgspec.Struct, frozen=True):
    """
    One labelled stream.

    Args:
        id: Name of the case.
        kind: Its label.
        num_speculative_tokens: Draft depth k; 0 without speculation. Unit: tokens.
        chunks: The stream.
        subkind: A finer label.
        first_bad_token: Tokens before the fault began; None for a healthy case.
        hard_negative: Why a healthy case is easily taken for a bad one; None for an ordinary one.
        prompt: What the user asked, where known.
        temperature: Sampling temperature, where known.
        engine: What produced it, where known.
        redacted: Whether its text was recorded as a mere shape, each letter an x: no word of it can be read.
    """

    id: str
    kind: CaseKind
    num_speculative_tokens: int
    chunks: tuple[CaseChunk, ...]
    subkind: str = ""
    first_bad_token: int | None = None
    hard_negative: str | None = None
    prompt: str = ""
    temperature: float = 0.0
    engine: str = ""
    redacted: bool = False

    @property
    def tokens(self) -> int:
        """Length of the stream. Unit: tokens."""
        return sum(chunk.tokens for chunk in self.chunks)


class CaseResult(msgspec.Struct, frozen=True):
    """
    What a policy made of a case.

    Args:
        action: RETRY or CUT where a rule acted, NOTE where one only noted, else PASS.
        token: Tokens of the stream when it did, or its whole length. Unit: tokens.
        onset: Estimated first bad token; None unless a rule acted or noted.
        kind: What the rule says is wrong.
        rule: Its name.
        reason: Its evidence, readable.
        chunk: Chunks seen: up to the one at which a rule acted, or all of them.
        peak: Highest suspicion up to there.
        bad_peak: The same, from where the fault began; of a healthy case all of it.
        held_chunks: Chunks that had to wait because of suspicion.
        shown: Tokens that the client of a stream had when a rule acted, or at the end. Unit: tokens.
        suspicion: After each chunk, if a trace was asked for.
        acceptance: Token, accepted and drafted of each verify step of the whole case, likewise.
    """

    action: Action
    token: int
    onset: int | None = None
    kind: Kind | None = None
    rule: str = ""
    reason: str = ""
    chunk: int = 0
    peak: float = 0.0
    bad_peak: float = 0.0
    held_chunks: int = 0
    shown: int = 0
    suspicion: tuple[float, ...] = ()
    acceptance: tuple[tuple[int, int, int], ...] = ()

    @property
    def acted(self) -> bool:
        """Whether the stream would have been stopped."""
        return self.action in (Action.RETRY, Action.CUT)


class _Line(msgspec.Struct):
    """A case as written."""

    id: str
    kind: CaseKind
    num_speculative_tokens: int
    chunks: list[list[str | int]]
    subkind: str | None = None
    first_bad_token: int | None = None
    hard_negative: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    engine: str | None = None
    text: str | None = None
    logprobs: list[list[float | None]] | None = None


_GZIP = b"\x1f\x8b"
_CHOICE = re.compile(r"Invalid enum value '(?P<value>.*)'", re.DOTALL)
_decoder = msgspec.json.Decoder(_Line)

#: Longest line: an answer of a hundred thousand chunks is shorter. Unit: bytes.
MAX_LINE = 32 * 1024 * 1024


def read_cases(path: Path) -> Iterator[Case]:
    """
    The cases of one file, one after the other.

    Raises:
        ConfigError: The file cannot be read, or a line is no case; file and line are named.
    """
    number = 0
    try:
        with path.open("rb") as raw, unpacked(raw) as file:
            for number, found in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
                line = found.removeprefix(codecs.BOM_UTF8) if number == 1 else found
                if len(line) > MAX_LINE:
                    raise ConfigError(f"the line has more than {MAX_LINE} bytes", path=str(path), line=number)
                if line and not line.isspace():
                    yield _parse(line, str(path), number)
    except IsADirectoryError as error:
        raise ConfigError(f"a folder; name the files in it, as in {path}/*.jsonl", path=str(path)) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", path=str(path), line=number + 1 if number else None) from error


def unpacked(raw: BufferedReader) -> BufferedReader | gzip.GzipFile:
    """What is in a file, unpacked where gzip has packed it: rotated files are, under any name."""
    return gzip.open(raw) if raw.peek(len(_GZIP))[: len(_GZIP)] == _GZIP else raw


def _parse(line: bytes, path: str, number: int) -> Case:
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message, _, where = str(error).partition(" - at `$")
        message = f"not a case: {_in_words(message, error)}"
        raise ConfigError(message, path=path, line=number, where=where.strip("`.")) from error
    problem, where = _problem(found)
    if problem:
        raise ConfigError(problem, path=path, line=number, where=where)
    depth = found.num_speculative_tokens
    return Case(
        id=found.id,
        kind=found.kind,
        num_speculative_tokens=depth,
        chunks=tuple(_chunks(found)),
        subkind=found.subkind or "",
        first_bad_token=None if found.kind is CaseKind.HEALTHY else found.first_bad_token,
        hard_negative=found.hard_negative,
        prompt=found.prompt or "",
        temperature=found.temperature or 0.0,
        engine=found.engine or "",
        redacted=found.text == "redacted",
    )


def _in_words(message: str, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it has a byte 0x{error.object[error.start]:02x} that is not UTF-8; mend this line or take it out"
    if message == "Input data was truncated":
        return "it is cut off, as where a file is copied while it is written; take this line out"
    if chosen := _CHOICE.fullmatch(message):
        return not_known(chosen["value"], [kind.value for kind in CaseKind])
    return plain_words(message) if message.startswith(("Expected", "Object")) else message


def _problem(line: _Line) -> tuple[str, str]:
    """What is wrong with a line and where; two empty texts when nothing is."""
    if not line.id:
        return "a case needs a name", "id"
    if not 0 <= line.num_speculative_tokens <= 64:
        return f"{line.num_speculative_tokens} is no draft depth; write 0 to 64", "num_speculative_tokens"
    if line.kind in BAD_KINDS and line.first_bad_token is None:
        return f"a {line.kind} case must say at which token the fault began", "first_bad_token"
    if line.first_bad_token is not None and line.first_bad_token < 0:
        return "tokens are counted from 0", "first_bad_token"
    if not line.chunks:
        return "a case needs at least one chunk", "chunks"
    if line.logprobs is not None and len(line.logprobs) != len(line.chunks):
        return f"{len(line.logprobs)} lists of log-probabilities for {len(line.chunks)} chunks", "logprobs"
    for index, chunk in enumerate(line.chunks):
        problem = _chunk_problem(chunk, line.num_speculative_tokens)
        if problem:
            return problem, f"chunks[{index}]"
    return "", ""


def _chunk_problem(chunk: list[str | int], depth: int) -> str:
    if len(chunk) not in (2, 4):
        return f"a chunk is [text, tokens] or [text, tokens, accepted, drafted], not {len(chunk)} values"
    text, *numbers = chunk
    if not isinstance(text, str) or any(isinstance(number, str) for number in numbers):
        return "a chunk is a text followed by whole numbers"
    tokens, accepted, drafted = (*(int(number) for number in numbers), 0, 0)[:3]
    if tokens < 0 or accepted < 0 or drafted < UNKNOWN_DRAFT:
        return "counts are not negative (drafted -1: not known)"
    if len(chunk) == 2 and 0 < depth < tokens - 1:
        return f"{tokens} tokens are more than one verify step of {depth} drafted tokens can give ({depth + 1})"
    if len(chunk) == 4 and accepted > drafted != UNKNOWN_DRAFT:
        return f"accepted {accepted} of {drafted} drafted tokens"
    return ""


def _chunks(line: _Line) -> Iterator[CaseChunk]:
    depth, told = line.num_speculative_tokens, line.logprobs
    for index, chunk in enumerate(line.chunks):
        made = _chunk(chunk, depth)
        if told is not None and told[index]:
            made = made._replace(logprobs=tuple(value for value in told[index] if value is not None))
        yield made


def _chunk(chunk: list[str | int], depth: int) -> CaseChunk:
    text, tokens = str(chunk[0]), int(chunk[1])
    if len(chunk) == 4:
        return CaseChunk(text, tokens, int(chunk[2]), int(chunk[3]))
    return CaseChunk(text, tokens, tokens - 1 if depth and tokens else None, depth)


def samples(case: Case) -> Iterator[Sample]:
    """The case as the detectors see it: one sample a chunk."""
    for text, tokens, accepted, drafted, logprobs in case.chunks:
        steps: tuple[StepAcceptance, ...] = ()
        if accepted is not None:
            steps = (StepAcceptance(accepted, drafted, tokens, drafted != UNKNOWN_DRAFT),)
        yield Sample(0, ((Channel.CONTENT, text),) if text else (), tokens, steps, logprobs)


def run_case(judge: Judge, case: Case, baseline: Baseline | None = None, *, trace: bool = False) -> CaseResult:
    """
    Judge a case as a live stream is judged: the first verdict that acts ends it, a note does not.

    Args:
        judge: The compiled policy.
        case: The stream.
        baseline: Healthy acceptance of its deployment, if known.
        trace: Whether to keep the suspicion after each chunk and each verify step.
    """
    monitor = Monitor(judge, baseline, case.prompt)
    hold_back = judge.policy.hold_back
    waits_at = hold_back.hold_at if hold_back.mode is HoldMode.SUSPICION else 2.0
    window = window_of(hold_back)
    suspicion: list[float] = []
    tokens = held = chunks = shown = 0
    peak = bad_peak = 0.0
    begun = case.first_bad_token or 0
    verdict: Verdict | None = None
    for sample in samples(case):
        chunks += 1
        tokens += sample.tokens
        seen = monitor.observe((sample,))
        window.push(Held(b"", "", sample.tokens, tokens))
        peak = max(peak, monitor.suspicion)
        if tokens >= begun:
            bad_peak = max(bad_peak, monitor.suspicion)
        held += monitor.suspicion >= waits_at
        if trace:
            suspicion.append(round(monitor.suspicion, 4))
        if seen.action in (Action.RETRY, Action.CUT):
            verdict = seen
            break
        shown += sum(one.tokens for one in window.release(monitor.suspicion))
        if seen.action is Action.NOTE and verdict is None:
            verdict = seen
    else:
        shown = tokens
    return CaseResult(
        action=verdict.action if verdict else Action.PASS,
        token=verdict.token if verdict else tokens,
        onset=verdict.onset_token if verdict else None,
        kind=verdict.kind if verdict else None,
        rule=verdict.rule if verdict else "",
        reason=verdict.reason if verdict else "",
        chunk=chunks,
        peak=round(peak, 4),
        bad_peak=round(bad_peak, 4),
        held_chunks=held,
        shown=shown,
        suspicion=tuple(suspicion),
        acceptance=acceptance_trace(case) if trace else (),
    )


def acceptance_trace(case: Case) -> tuple[tuple[int, int, int], ...]:
    """Token at its end, accepted and drafted tokens of each verify step that had a draft."""
    steps: list[tuple[int, int, int]] = []
    tokens = 0
    for chunk in case.chunks:
        tokens += chunk.tokens
        if chunk.accepted is not None and chunk.drafted:
            drafted = chunk.drafted if chunk.drafted > 0 else max(case.num_speculative_tokens, chunk.accepted)
            steps.append((tokens, chunk.accepted, drafted))
    return tuple(steps)
