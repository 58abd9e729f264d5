"""
Recorded traces: their form on disk, what a reader said of them, and the half each belongs to.

The labels are a YAML file, by trace id: a kind, or a kind and the token at which a reader first sees the fault. A
trace that two readers could call healthy or looping is `undecided`: it is written nowhere, since no verdict on it is
right or wrong.

    noise-all-at15-story-t0-k3: garbled
    loop-counting-k3: [repetition, 41]
    healthy-interview-t0.7-k3: undecided
"""

from __future__ import annotations

import enum
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from guard.data import read_text
from guard.errors import ConfigError
from guard.lab.cases import CaseKind


class Half(enum.StrEnum):
    """
    Whether a policy may be tuned on a trace, or is only tried on it.

    FRESH is the third set, recorded after the rules of that time were made; LATER, FIFTH, SIXTH, SEVENTH and EIGHTH are
    those after it, each recorded after the set before it had been read.
    """

    TUNING = "tuning"
    UNSEEN = "unseen"
    FRESH = "fresh"
    LATER = "later"
    FIFTH = "fifth"
    SIXTH = "sixth"
    SEVENTH = "seventh"
    EIGHTH = "eighth"


#: The two halves of what was recorded first.
HALVES = (Half.TUNING, Half.UNSEEN)


def half_of(prompt: str) -> Half:
    """The half of all traces of a prompt: by its hash, so that no prompt stands in both."""
    return Half.UNSEEN if hashlib.sha256(prompt.encode()).digest()[0] & 1 else Half.TUNING


#: Label of a trace that belongs to no kind.
UNDECIDED = "undecided"


class Trace(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A recorded trace: one line of a file. `guard.lab.cases` tells of the fields not named here.

    Args:
        kind: Empty until a reader has labelled it.
        injected_at: Tokens relayed when the cache was spoiled; None without a fault. Unit: tokens.
        half: See `half_of`.
        chunks: `[text, tokens, accepted, drafted]` for each verify step.
        continued_at: Where the first recording ended, and `guard.lab.trace_lengthen` had it go on. Unit: tokens.
    """

    id: str
    kind: str
    subkind: str
    num_speculative_tokens: int
    first_bad_token: int | None
    hard_negative: str | None
    injected_at: int | None
    half: Half
    prompt: str
    temperature: float
    engine: str
    chunks: list[list[str | int]]
    continued_at: int | None = None


class Label(msgspec.Struct, frozen=True):
    """
    What a reader said of a trace.

    Args:
        kind: What the text shows.
        onset: Token at which it begins to show; None: when the fault was injected. Unit: tokens.
    """

    kind: CaseKind
    onset: int | None = None


def read_traces(path: Path) -> Iterator[Trace]:
    """
    The traces of a file, through gzip if its name ends in `.gz`.

    Raises:
        ConfigError: The file cannot be read, or a line is no trace; file and line are named.
    """
    decoder = msgspec.json.Decoder(Trace)
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise ConfigError(f"not a trace: {error}", path=str(path), line=number) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", path=str(path), line=number + 1 if number else None) from error


def read_labels(path: Path) -> dict[str, Label | None]:
    """
    The labels of a file by trace id; None for undecided ones.

    Raises:
        ConfigError: The file cannot be read, or is no mapping; a label is not a kind, or a kind and a token.
    """
    try:
        found = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", path=str(path)) from error
    if not isinstance(found, dict):
        raise ConfigError("not labels: each line is `id: label`", path=str(path))
    labels: dict[str, Label | None] = {}
    for name, said in found.items():
        if said == UNDECIDED:
            labels[name] = None
            continue
        try:
            labels[name] = msgspec.convert(dict(zip(("kind", "onset"), _as_list(said), strict=False)), Label)
        except msgspec.ValidationError as error:
            raise ConfigError(f"not a label: {error}", path=str(path), where=name) from error
    return labels


def _as_list(said: object) -> list[Any]:
    return said if isinstance(said, list) else [said]


def labelled(trace: Trace, label: Label) -> Trace:
    """
    A trace with what a reader said of it.

    A hard negative stays one only if the trace is healthy.

    Raises:
        ValueError: It is said to be bad, and neither the reader nor an injection tells from where.
    """
    if label.kind is CaseKind.HEALTHY:
        return msgspec.structs.replace(trace, kind=label.kind.value, first_bad_token=None)
    onset = trace.injected_at if label.onset is None else label.onset
    if onset is None:
        raise ValueError(f"{trace.id}: a {label.kind} trace without an injection needs the token at which it began")
    return msgspec.structs.replace(trace, kind=label.kind.value, first_bad_token=onset, hard_negative=None)


def write_halves(traces: Iterable[Trace], labels: Mapping[str, Label | None], folder: Path) -> dict[Half, int]:
    """
    Write the labelled traces into `tuning.jsonl.gz`, `unseen.jsonl.gz` and those of later sets, if there are such.

    The same traces and labels give the same bytes.

    Args:
        traces: In any order.
        labels: One for each trace; None leaves it out.
        folder: Where to write; made if it is not there.

    Returns:
        Traces written of each half.

    Raises:
        ConfigError: Traces without a label, or labels without a trace; they are named.
    """
    by_id = {trace.id: trace for trace in traces}
    decided = {name: label for name, label in labels.items() if label is not None}
    for names, what in (
        (by_id.keys() - labels.keys(), "no label for"),
        (decided.keys() - by_id.keys(), "no trace for"),
    ):
        if names:
            raise ConfigError(f"{what} {', '.join(sorted(names))}")
    made = [labelled(by_id[name], decided[name]) for name in sorted(by_id.keys() & decided.keys())]
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    there = {*HALVES, *(trace.half for trace in made)}
    for half in [half for half in Half if half in there]:
        mine = [msgspec.json.encode(trace) + b"\n" for trace in made if trace.half is half]
        (folder / f"{half}.jsonl.gz").write_bytes(gzip.compress(b"".join(mine), mtime=0))
        counts[half] = len(mine)
    return counts
